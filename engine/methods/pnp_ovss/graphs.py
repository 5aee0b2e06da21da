"""The graphs of a model, fed with pictures and captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ....kernels import reference
from ...device import Array, Device
from ...errors import ExecutionError
from ...inputs.text import Captioner, CaptionTokens
from ...model.folder import ModelFolder
from ...model.manifest import Manifest
from ...precision import PrecisionChoice
from ...runners import open_runners
from ...runners.base import Runner
from .captions import CaptionBatch

MAX_CAPTIONS = 32  # of one picture in one call of the salience graph: bounds its memory


@dataclass(frozen=True)
class Network:
    """The graphs of a model and what is needed to feed them.

    Arrays are on its device; `device.on_stream()` must be in force.
    """

    vision: Runner
    vision_tokens: Runner
    salience: Runner
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
    ) -> Network:
        """Load the graphs of a model folder.

        Raises:
            ModelError: the tokenizer cannot be read.
            BackendError: the backend, the device or the precision cannot be had.
        """
        captioner = Captioner.load(model)
        runners = open_runners(model, backend=backend, device=device, precision=precision)
        return cls(*runners, captioner, model.manifest)

    @property
    def device(self) -> Device:
        """Where all graphs run."""
        return self.vision.device

    def close(self) -> None:
        """Free the graphs."""
        for graph in (self.vision, self.vision_tokens, self.salience):
            graph.close()

    def embed(self, pixels: Array) -> Array:
        """[B, 3, S, S] -> [B, 1 + P, D], which the next call may overwrite."""
        return self.vision.run({"pixel_values": pixels})["image_embeds"]

    def embed_kept(self, pixels: Array, kept: Array) -> Array:
        """[B, 3, S, S] and int64 [B, R] -> [B, R, D], likewise: of the tokens that are kept alone.

        Args:
            pixels: of the pictures.
            kept: positions of the tokens, first 0, that of [CLS]; further zeros are padding.
        """
        feeds = {"pixel_values": pixels, "kept": kept}
        return self.vision_tokens.run(feeds)["image_embeds"]

    def match(self, embeds: Array, captions: Sequence[CaptionTokens]) -> Array:
        """ITM logits of each caption with one picture, float32 [N, 2].

        Args:
            embeds: of the picture, [1 + P, D].
            captions: any number of them.
        """
        xp = self.device.xp
        ids, mask = map(xp.asarray, self.captioner.pad(captions))
        keep = xp.ones((1, len(embeds) - 1), np.float32)
        logits = xp.empty((len(ids), 2), np.float32)
        for part in _parts(0, len(ids)):
            feeds = _feeds(embeds[None], keep, ids[part], mask[part])
            logits[part] = self.salience.run(feeds, ["itm_logits"])["itm_logits"]
        return logits

    def read(self, embeds: Array, keep: Array, captions: CaptionBatch) -> tuple[Array, Array]:
        """Salience and ITM logits of every caption.

        Pictures with one caption each share a call; the captions of one picture share its keys and
        values.

        Args:
            embeds: [B, 1 + P, D].
            keep: float32 [B, P], 0 where cross-attention must not look.
            captions: of the B pictures.

        Returns:
            float32 [N, T, P] (of a model exported with --all-heads [N, L, H, T, P]), and [N, 2];
            the next call may overwrite them.
        """
        if len(embeds) == len(captions.ids):
            out = self.salience.run(_feeds(embeds, keep, captions.ids, captions.mask))
            return out["salience"], out["itm_logits"]
        parts = [
            (picture, part)
            for picture in range(len(embeds))
            for part in _parts(captions.first[picture], captions.first[picture + 1])
        ]
        whole: dict[str, Array] = {}
        for picture, part in parts:
            own = slice(picture, picture + 1)
            feeds = _feeds(embeds[own], keep[own], captions.ids[part], captions.mask[part])
            for name, value in self.salience.run(feeds).items():
                if name not in whole:
                    shape = (len(captions.ids), *value.shape[1:])
                    whole[name] = self.device.xp.empty(shape, value.dtype)
                whole[name][part] = value
        return whole["salience"], whole["itm_logits"]


def match_probability(logits: np.ndarray) -> np.ndarray:
    """ITM logits [..., 2] to the probability of a match, [...].

    Raises:
        ExecutionError: a logit is not finite.
    """
    return reference.softmax(np.moveaxis(finite("itm_logits", logits), -1, 0))[1]


def finite(name: str, values: np.ndarray) -> np.ndarray:
    """The values of an output, which a broken model may spoil.

    Raises:
        ExecutionError: one is not finite.
    """
    if not np.isfinite(values).all():
        raise ExecutionError(
            f"the model's {name} is not finite", "its weights are damaged: export it again"
        )
    return values


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
