"""Run the graphs of an image-text-matching model on images and captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...device import Array, Device
from ...errors import ModelError
from ...inputs.text import Captioner, CaptionTokens
from ...model.folder import ModelFolder
from ...model.manifest import AGAIN, TOKENIZER, Manifest
from ...precision import PrecisionChoice
from ...runners import Runners, open_runners
from .captions import CaptionBatch

MAX_CAPTIONS = 32  # of one image in one call of the salience graph: bounds its memory

_Shapes = Mapping[str, tuple[int | None, ...]]
_VISION, _VISION_TOKENS, _SALIENCE = "vision", "vision_tokens", "salience"  # in the manifest


@dataclass(frozen=True)
class Graphs:
    """The graphs of a model, and what is needed to feed them.

    Arrays are on the model's device, and `device.on_stream()` must be in force.

    Attributes:
        runners: runners of the graphs.
        captioner: captioner of the model.
        manifest: manifest of the model folder.
    """

    runners: Runners
    captioner: Captioner
    manifest: Manifest

    @classmethod
    def open(
        cls,
        model: ModelFolder,
        *,
        backend: str = "auto",
        device: str = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
    ) -> Graphs:
        """Load the graphs of a model folder.

        Raises:
            ModelError: the tokenizer cannot be read, or the graphs are not what the manifest says.
            BackendError: the backend, the device or the precision cannot be had.
        """
        _require_shapes(model)
        with model.files.unchanged([TOKENIZER]):
            captioner = Captioner.load(model)
        now = (_VISION, _SALIENCE)
        how: dict[str, Any] = {"device": device, "precision": precision, "threads": threads}
        runners = open_runners(model, now, backend=backend, **how)
        return cls(runners, captioner, model.manifest)

    @property
    def device(self) -> Device:
        """Device of all graphs."""
        return self.runners.device

    def normalize(self, images: Array) -> Array:
        """Normalize images of the input's size: uint8 [B, H, W, 3] -> float32 [B, 3, H, W]."""
        preprocess = self.manifest.preprocess
        mean, std = (np.array(one, np.float32) for one in (preprocess.mean, preprocess.std))
        return self.device.kernels.normalize(images, mean, std)

    def embed(self, pixels: Array) -> Array:
        """Encode images: [B, 3, H, W] -> [B, 1 + P, D], which the next call may overwrite."""
        return self.runners.run(_VISION, {"pixel_values": pixels})["image_embeds"]

    def embed_kept(self, pixels: Array, kept: Array) -> Array:
        """Encode images by an encoder that sees only some of the patches.

        Args:
            pixels: normalized images, float32 [B, 3, H, W].
            kept: positions of the tokens that the encoder sees, int64 [B, R]. The first is 0, the
                position of [CLS]; further zeros are padding.

        Returns:
            Image embeddings [B, R, D], which the next call may overwrite.
        """
        feeds = {"pixel_values": pixels, "kept": kept}
        return self.runners.run(_VISION_TOKENS, feeds)["image_embeds"]

    def match(self, embeds: Array, captions: Sequence[CaptionTokens]) -> Array:
        """Compute the ITM logits of each caption with one image, float32 [N, 2].

        Args:
            embeds: embeddings of the image, [1 + P, D].
            captions: N captions, any number.
        """
        xp = self.device.xp
        ids, mask = map(xp.asarray, self.captioner.pad(captions))
        keep = xp.ones((1, len(embeds) - 1), np.float32)
        logits = xp.empty((len(ids), 2), np.float32)
        for part in _parts(0, len(ids)):
            feeds = _feeds(embeds[None], keep, ids[part], mask[part])
            logits[part] = self.runners.run(_SALIENCE, feeds, ["itm_logits"])["itm_logits"]
        return logits

    def salience(self, embeds: Array, keep: Array, captions: CaptionBatch) -> tuple[Array, Array]:
        """Compute salience and ITM logits of every caption.

        If each image has one caption, all share a call. Otherwise each image has calls of its own,
        in which its captions share keys and values.

        Args:
            embeds: embeddings of the B images, [B, 1 + P, D].
            keep: 0 for a patch that cross-attention must not see, else 1; float32 [B, P].
            captions: captions of the B images.

        Returns:
            Salience, float32 [N, T, P], and ITM logits, [N, 2]; the next call may overwrite them.
            A model exported with --all-heads gives salience [N, L, H, T, P].
        """
        if len(embeds) == len(captions.ids):
            feeds = _feeds(embeds, keep, captions.ids, captions.mask)
            out = self.runners.run(_SALIENCE, feeds)
            return out["salience"], out["itm_logits"]
        parts = [
            (image, part)
            for image in range(len(embeds))
            for part in _parts(captions.first[image], captions.first[image + 1])
        ]
        whole: dict[str, Array] = {}
        for image, part in parts:
            one = slice(image, image + 1)
            feeds = _feeds(embeds[one], keep[one], captions.ids[part], captions.mask[part])
            for name, value in self.runners.run(_SALIENCE, feeds).items():
                if name not in whole:
                    shape = (len(captions.ids), *value.shape[1:])
                    whole[name] = self.device.xp.empty(shape, value.dtype)
                whole[name][part] = value
        return whole["salience"], whole["itm_logits"]

    def match_probability(self, logits: Array) -> Array:
        """Turn ITM logits [..., 2] into match probabilities, float64 [...]; NaN of no finite one.

        In float64 every library's exponential gives the same float32 in the end.
        """
        xp = self.device.xp
        finite = xp.isfinite(logits).all(axis=-1)
        both = xp.moveaxis(xp.where(finite[..., None], logits, np.float32(0)), -1, 0)
        both = both.astype(np.float64)
        exponent = xp.exp(both - both.max(axis=0))
        return xp.where(finite, exponent[1] / exponent.sum(axis=0), np.float64(np.nan))


def _require_shapes(model: ModelFolder) -> None:
    """Check that the graphs take and give what is fed and read here, in the manifest's sizes.

    Raises:
        ModelError: a graph has other inputs, outputs or sizes, or is missing.
    """
    preprocess, patches = model.manifest.preprocess, model.manifest.preprocess.patches
    pixels, embeds = {"pixel_values": (3, *preprocess.sides)}, {"image_embeds": (1 + patches, None)}
    tokens = {"input_ids": (None,), "attention_mask": (None,)}
    maps = (None, None, None, patches) if model.manifest.all_heads else (None, patches)
    wanted: dict[str, tuple[_Shapes, _Shapes]] = {
        _VISION: (pixels, embeds),
        _SALIENCE: (
            {**embeds, **tokens, "patch_keep": (patches,)},
            {"salience": maps, "itm_logits": (2,)},
        ),
        _VISION_TOKENS: ({**pixels, "kept": (None,)}, {"image_embeds": (None, None)}),
    }
    for name, (inputs, outputs) in wanted.items():
        if name == _VISION_TOKENS and not model.has_graph(name):
            continue  # an earlier version exported it
        graph = model.graph(name)
        for told, shapes in ((graph.inputs, inputs), (graph.outputs, outputs)):
            wrong = sorted(told.keys() ^ shapes.keys())
            wrong += [
                one for one in shapes if one in told and not _fits(told[one].shape, shapes[one])
            ]
            if wrong:
                raise ModelError(
                    f"'{model.path}' cannot be used: its graph {name!r} has"
                    f" {told.get(wrong[0], 'no')} {wrong[0]}, and its images have"
                    f" {preprocess.sides[0]}x{preprocess.sides[1]} pixels in patches of"
                    f" {preprocess.patch}",
                    AGAIN,
                )


def _fits(shape: Sequence[int | str], last: Sequence[int | None]) -> bool:
    """Tell whether a shape has a first dimension and then such sizes, of which None is any."""
    return len(shape) == 1 + len(last) and all(
        wanted in (None, size) for size, wanted in zip(shape[1:], last, strict=True)
    )


def _feeds(embeds: Array, keep: Array, ids: Array, mask: Array) -> dict[str, Array]:
    return {
        "image_embeds": embeds,
        "input_ids": ids,
        "attention_mask": mask,
        "patch_keep": keep,
    }


def _parts(first: int, end: int) -> Iterator[slice]:
    for start in range(first, end, MAX_CAPTIONS):
        yield slice(start, min(start + MAX_CAPTIONS, end))
