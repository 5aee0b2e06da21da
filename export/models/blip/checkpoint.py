"""BLIP's image-text-matching branch: its checkpoints, and what is known of the family."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import BlipForImageTextRetrieval
from transformers.utils import logging as transformers_logging

from ....engine.errors import ModelError, reason
from ....engine.model.folder import is_hub_id
from ....engine.model.manifest import Caption
from ....engine.model.manifest import Checkpoint as Origin
from .. import wordpiece
from . import original

FAMILY = "blip"
PROMPT = "A picture of"

# Where BLIP-large is read: layer 8 and head 9 of the paper, which counts layers from 1 (PnP-OVSS).
_BEST_LAYER, _BEST_HEAD = 7, 9
_TEXT_LAYERS, _TEXT_HEADS = 12, 12
_BLIP_LARGE = (24, 1024, _TEXT_LAYERS, _TEXT_HEADS, 768)  # image encoder, then text encoder

_HUB_FILES = ["config.json", *wordpiece.FILES, "model*.safetensors*"]
_NEEDED = ("vision_model.", "text_encoder.", "itm_head.")  # what image-text matching runs on


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to export, and its tokenizer.

    Attributes:
        model: in eval mode, on the CPU, its position embeddings as stored.
        tokenizer: WordPiece, uncased.
        origin: where it came from.
        notes: choices made for the user, to be shown.
    """

    model: BlipForImageTextRetrieval
    tokenizer: Tokenizer
    origin: Origin
    notes: list[str]


def load(
    checkpoint: str, *, revision: str | None = None, tokenizer_path: Path | None = None
) -> Checkpoint:
    """Load a checkpoint.

    Args:
        checkpoint: a hub id, a Hugging Face folder, or an original BLIP `.pth` file.
        revision: branch, tag or commit of a hub id.
        tokenizer_path: a `tokenizer.json`, a `vocab.txt`, or a folder with one, in place of the
            checkpoint's own.

    Raises:
        ModelError: it cannot be found, fetched or read, or is no BLIP image-text-matching model.
    """
    if revision and not is_hub_id(checkpoint):
        raise ModelError(f"revision is {revision!r}", "only a hub id has revisions: leave it out")
    notes: list[str] = []
    commit: str | None = None
    path = Path(checkpoint).expanduser()
    if path.is_file():
        model = original.load(path)
        files = None
    else:
        if path.is_dir():
            files = path
        elif is_hub_id(checkpoint):
            files = _download(checkpoint, revision)
            commit = files.name  # the hub's cache names a snapshot by its commit
        else:
            raise ModelError(
                f"no checkpoint {checkpoint!r}: no such file or folder, and no hub id",
                "give a hub id (Salesforce/blip-itm-large-flickr), a folder, or a .pth file",
            )
        model = _load_folder(files)
    source = checkpoint if commit else path.name
    words = _tokenizer(tokenizer_path, files, model, notes)
    return Checkpoint(model.eval(), words, Origin(source, commit), notes)


def known_best(model: BlipForImageTextRetrieval) -> tuple[int, int, bool]:
    """The cross-attention layer and head to read, and whether they are known to be the best.

    They are known for BLIP-large (published for its Flickr checkpoint at 336 px). For any other
    model the same relative place is taken, but for the last layer, which has no salience.
    """
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    layers, heads = text.num_hidden_layers, text.num_attention_heads
    layer, head = _BEST_LAYER * layers // _TEXT_LAYERS, _BEST_HEAD * heads // _TEXT_HEADS
    shape = (vision.num_hidden_layers, vision.hidden_size, layers, heads, text.hidden_size)
    return max(min(layer, layers - 2), 0), head, shape == _BLIP_LARGE


def caption(checkpoint: Checkpoint) -> Caption:
    """How captions are written for a model. [ENC] is the tokenizer's own, else follows [DEC].

    Raises:
        ModelError: the model has no embedding for [ENC].
    """
    config: Any = checkpoint.model.config.text_config
    enc_id = checkpoint.tokenizer.token_to_id("[ENC]")
    if enc_id is None:
        dec_id = config.vocab_size if config.bos_token_id is None else config.bos_token_id
        enc_id = dec_id + 1
    if enc_id >= config.vocab_size:
        raise ModelError(
            f"the token [ENC] would have id {enc_id}, but the model's vocabulary has"
            f" {config.vocab_size} entries",
            "give a tokenizer with an [ENC] token: --tokenizer",
        )
    return Caption(
        prompt=PROMPT,
        enc_id=enc_id,
        sep_id=wordpiece.special_id(checkpoint.tokenizer, "[SEP]"),
        pad_id=wordpiece.special_id(checkpoint.tokenizer, "[PAD]"),
        max_tokens=config.max_position_embeddings,
    )


def resize_positions(model: BlipForImageTextRetrieval, image_size: int) -> None:
    """Interpolate the image encoder's position embeddings for another input size, in place.

    Raises:
        ModelError: the patch size does not divide the image size.
    """
    encoder: Any = model.vision_model
    patch = encoder.config.patch_size
    if image_size < patch or image_size % patch:
        near = max(1, round(image_size / patch)) * patch
        raise ModelError(
            f"image size {image_size} is not a multiple of the model's patch size {patch}",
            f"use for example --image-size {near}",
        )
    grid = image_size // patch
    old = encoder.embeddings.position_embedding.detach()
    side = round((old.shape[1] - 1) ** 0.5)
    if grid != side:
        patches = old[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        patches = nn.functional.interpolate(
            patches, size=(grid, grid), mode="bicubic", align_corners=False
        )
        new = torch.cat([old[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
        encoder.embeddings.position_embedding = nn.Parameter(new)
    encoder.config.image_size = image_size


def _download(hub_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                hub_id,
                revision=revision,
                allow_patterns=_HUB_FILES,
            )
        )
        if not any(folder.glob("*.safetensors")):
            snapshot_download(hub_id, revision=revision, allow_patterns=["pytorch_model*"])
    except Exception as error:  # of many kinds: HTTP, time-outs, cache, names
        raise ModelError(
            f"cannot fetch {hub_id!r} from the Hugging Face hub: {reason(error)}",
            "check the name and the network, or give a folder or .pth file that is already here",
        ) from error
    return folder


def _load_folder(folder: Path) -> BlipForImageTextRetrieval:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"'{folder}' is not a Hugging Face checkpoint: no readable config.json",
            "save one with BlipForImageTextRetrieval.save_pretrained",
        ) from error
    if config.get("model_type") != "blip":
        raise ModelError(
            f"'{folder}' holds a {config.get('model_type')!r} model",
            "only BLIP image-text-matching models can be exported so far",
        )
    model, loading = _from_pretrained(folder)
    lost = [
        key
        for key in (*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"]))
        if key.startswith(_NEEDED)
    ]
    if lost:
        raise ModelError(
            f"'{folder}' lacks {len(lost)} weights of the image-text-matching branch,"
            f" among them {sorted(lost)[0]!r}",
            "it is damaged, or another kind of BLIP (captioning, VQA): take a blip-itm checkpoint",
        )
    _check_shape(model)
    return model


def _from_pretrained(folder: Path) -> tuple[BlipForImageTextRetrieval, dict[str, Any]]:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = BlipForImageTextRetrieval.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32, local_files_only=True
        )
        return loaded
    except Exception as error:  # of many kinds, from the weight format up to the configuration
        raise ModelError(
            f"'{folder}' cannot be loaded: {reason(error)}",
            "the checkpoint is incomplete or damaged: save or download it again",
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _check_shape(model: BlipForImageTextRetrieval) -> None:
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    if not text.is_decoder:
        raise ModelError("the checkpoint's text encoder has no cross-attention", "take an ITM one")
    for name, config in (("image", vision), ("text", text)):
        if config.hidden_act != "gelu":
            raise ModelError(
                f"the {name} encoder's activation is {config.hidden_act!r}",
                "only gelu, which every published BLIP uses, can be exported",
            )
    for name in ("image_size", "patch_size"):
        if not isinstance(getattr(vision, name), int):
            raise ModelError(f"{name} is {getattr(vision, name)}", "only square images can be used")


def _tokenizer(
    given: Path | None, own: Path | None, model: BlipForImageTextRetrieval, notes: list[str]
) -> Tokenizer:
    """The tokenizer that was given, else the checkpoint's own, else BERT's where it fits."""
    config: Any = model.config.text_config
    size = config.vocab_size
    source = given or own
    found = wordpiece.read(source) if source else None
    if found is None and given:
        raise ModelError(f"no tokenizer at '{given}'", "give a tokenizer.json or a vocab.txt")
    if found is None:
        if size not in wordpiece.BERT_SIZES:
            raise ModelError(
                f"the checkpoint has no tokenizer, and its vocabulary of {size} is not BERT's",
                "name one with --tokenizer (a tokenizer.json or a vocab.txt)",
            )
        found = wordpiece.bert()
        notes.append("the checkpoint has no tokenizer: took BERT's uncased one, as BLIP does")
    wordpiece.check(found, size)
    found.no_padding()
    found.no_truncation()
    return found
