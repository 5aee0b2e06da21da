"""The graphs of an image-text-matching model, fed with images and captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...device import Array, Device
from ...errors import ModelError
from ...inputs.text import Captioner, CaptionTokens
from ...model.folder import ModelFolder
from ...model.manifest import AGAIN, Manifest
from ...precision import PrecisionChoice
from ...runners import Runners, open_runners
from .captions import CaptionBatch

MAX_CAPTIONS = 32  # of one image in one call of the salience graph: bounds its memory

_VISION, _VISION_TOKENS, _SALIENCE = "vision", "vision_tokens", "salience"  # in the manifest


@dataclass(frozen=True)
class Graphs:
    """The graphs of a model and what is needed to feed them.

    Arrays are on the device; `device.on_stream()` must be in force.

    Attributes:
        runners: run the graphs.
        captioner: writes captions.
        manifest: of the model folder.
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
    ) -> Graphs:
        """Load the graphs of a model folder.

        Raises:
            ModelError: the tokenizer cannot be read, or the graphs are not what the manifest says.
            BackendError: the backend, the device or the precision cannot be had.
        """
        _require_shapes(model)
        captioner = Captioner.load(model)
        now = (_VISION, _SALIENCE)
        runners = open_runners(model, now, backend=backend, device=device, precision=precision)
        return cls(runners, captioner, model.manifest)

    @property
    def device(self) -> Device:
        """Where all graphs run."""
        return self.runners.device

    def normalize(self, images: Array) -> Array:
        """Pixel values of images at the size of the input: uint8 [B, H, W, 3] -> [B, 3, H, W]."""
        preprocess = self.manifest.preprocess
        mean, std = (np.array(one, np.float32) for one in (preprocess.mean, preprocess.std))
        return self.device.kernels.normalize(images, mean, std)

    def embed(self, pixels: Array) -> Array:
        """Image embeddings: [B, 3, H, W] -> [B, 1 + P, D], which the next call may overwrite."""
        return self.runners.run(_VISION, {"pixel_values": pixels})["image_embeds"]

    def embed_kept(self, pixels: Array, kept: Array) -> Array:
        """Image embeddings of an encoder that sees some of the tokens only.

        Args:
            pixels: [B, 3, H, W].
            kept: int64 [B, R], positions of the tokens that it sees, first 0, that of [CLS];
                further zeros are padding.

        Returns:
            [B, R, D], which the next call may overwrite.
        """
        feeds = {"pixel_values": pixels, "kept": kept}
        return self.runners.run(_VISION_TOKENS, feeds)["image_embeds"]

    def match(self, embeds: Array, captions: Sequence[CaptionTokens]) -> Array:
        """ITM logits of each caption with one image, float32 [N, 2].

        Args:
            embeds: of the image, [1 + P, D].
            captions: any number of them.
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
        """Salience and ITM logits of every caption.

        Images with one caption each share a call; the captions of one image share its keys and
        values.

        Args:
            embeds: [B, 1 + P, D].
            keep: float32 [B, P], 0 where cross-attention must not look.
            captions: of the B images.

        Returns:
            float32 [N, T, P] (of a model exported with --all-heads [N, L, H, T, P]), and [N, 2];
            the next call may overwrite them.
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
        """ITM logits [..., 2] to the probability of a match, [...]; NaN where one is not finite."""
        xp = self.device.xp
        finite = xp.isfinite(logits).all(axis=-1)
        both = xp.moveaxis(xp.where(finite[..., None], logits, np.float32(0)), -1, 0)
        exponent = xp.exp(both - both.max(axis=0))
        return xp.where(finite, exponent[1] / exponent.sum(axis=0), np.float32(np.nan))


def _require_shapes(model: ModelFolder) -> None:
    """See that the graphs take the images and the patches that the manifest speaks of.

    Raises:
        ModelError: they do not, or there is no such graph.
    """
    vision, salience = model.graph(_VISION), model.graph(_SALIENCE)
    preprocess = model.manifest.preprocess
    for graph, name, last in (
        (vision, "pixel_values", preprocess.sides),
        (salience, "patch_keep", (preprocess.patches,)),
    ):
        shape = graph.inputs[name].shape if name in graph.inputs else ()
        if shape[-len(last) :] != last:
            raise ModelError(
                f"'{model.path}' cannot be used: its {name} is {list(shape)}, and its images have"
                f" {preprocess.sides[0]}x{preprocess.sides[1]} pixels in patches of"
                f" {preprocess.patch}",
                AGAIN,
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
