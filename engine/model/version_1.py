"""Read manifests of schema version 1, which knew only PnP-OVSS on BLIP."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ..json_text import decode_json
from ..settings import Settings
from .manifest import SCHEMA_VERSION, Checkpoint, FileRecord, Manifest, Preprocess, Text, Weights
from .signature import CAPTION_LENGTHS, Graph, Role, Tensor

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, which BLIP has too
_STD = (0.26862954, 0.26130258, 0.27577711)
_VISION, _VISION_TOKENS = "onnx/vision.onnx", "onnx/vision_tokens.onnx"
_SALIENCE = "onnx/salience.onnx"
_WIDTH = "width"  # of the image embeddings, which version 1 did not tell


class _Caption(msgspec.Struct):
    prompt: str
    enc_id: int
    sep_id: int
    pad_id: int
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    software_version: str
    checkpoint: Checkpoint
    family: str
    image_size: int
    patch_size: int
    layer: int | list[int]
    head: int | list[int]
    all_heads: bool
    caption: _Caption
    dtype: str
    export_error: dict[str, float]
    settings: Settings
    files: dict[str, FileRecord]
    weights: Weights = "float32"
    trained: bool = True
    classes: list[str] = field(default_factory=list[str])


def upgrade(text: bytes) -> Manifest:
    """Turn a manifest of version 1 into one of this version: BLIP's values are filled in.

    Args:
        text: contents of `manifest.json`.

    Raises:
        ValueError: the manifest is damaged, or its family is not "blip".
    """
    old = decode_json(text, _Manifest)
    if old.family != "blip":
        raise ValueError(f"family {old.family!r}, and version 1 knew 'blip' only")
    side, patch, caption = old.image_size, max(1, old.patch_size), old.caption
    return Manifest(
        schema_version=SCHEMA_VERSION,
        software_version=old.software_version,
        checkpoint=old.checkpoint,
        method="pnp-ovss",
        family=old.family,
        preprocess=Preprocess((side, side), old.patch_size, _MEAN, _STD),
        text=Text(
            tokenizer="wordpiece",
            prompt=caption.prompt,
            joiner=" ",
            lowercase=True,
            first_id=caption.enc_id,
            last_id=caption.sep_id,
            pad_id=caption.pad_id,
            unknown="[UNK]",
            context=caption.max_tokens,
        ),
        graphs=_graphs(old, side, (side // patch) ** 2),
        layer=old.layer,
        head=old.head,
        layer_known=False,
        all_heads=old.all_heads,
        dtype=old.dtype,
        weights=old.weights,
        export_error=old.export_error,
        settings=old.settings,
        files=old.files,
        trained=old.trained,
        classes=old.classes,
    )


def _graphs(old: _Manifest, side: int, patches: int) -> dict[str, Graph]:
    """Describe the graphs of a folder; the first folders had no `vision_tokens`."""
    lengths = sorted({min(length, old.caption.max_tokens) for length in CAPTION_LENGTHS})
    pixels = {"pixel_values": Tensor("float32", ("batch", 3, side, side))}
    tokens = Tensor("int64", ("batch", "tokens"))
    salience: tuple[int | str, ...] = ("batch", "tokens", patches)
    if old.all_heads:
        layers, heads = (1 if isinstance(one, int) else len(one) for one in (old.layer, old.head))
        salience = ("batch", layers, heads, "tokens", patches)
    roles: dict[str, Role] = {"batch": "rows"}
    return {
        "vision": Graph(
            file=_VISION,
            weights=f"{_VISION}_data",
            inputs=pixels,
            outputs={"image_embeds": Tensor("float32", ("batch", 1 + patches, _WIDTH))},
            roles=roles,
        ),
        "salience": Graph(
            file=_SALIENCE,
            weights=f"{_SALIENCE}_data",
            inputs={
                "image_embeds": Tensor("float32", ("images", 1 + patches, _WIDTH)),
                "input_ids": tokens,
                "attention_mask": tokens,
                "patch_keep": Tensor("float32", ("images", patches)),
            },
            outputs={
                "itm_logits": Tensor("float32", ("batch", 2)),
                "salience": Tensor("float32", salience),
            },
            roles={**roles, "images": "shared", "tokens": "padded"},
            lengths={"tokens": lengths},
            limits={"tokens": old.caption.max_tokens},
            gradient=True,
        ),
        "vision_tokens": Graph(
            file=_VISION_TOKENS,
            weights=f"{_VISION}_data",
            inputs={**pixels, "kept": Tensor("int64", ("batch", "kept"))},
            outputs={"image_embeds": Tensor("float32", ("batch", "kept", _WIDTH))},
            roles={**roles, "kept": "padded"},
            lengths={"kept": [1 + left for left in Settings().patches_left(patches)]},
            limits={"kept": 1 + patches},
            only_for={"drop_mode": "tokens"},
        ),
    }
