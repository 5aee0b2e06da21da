"""The two graphs of a model, fed with pictures and captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..kernels import reference
from .artifact import Artifact, Manifest
from .caption import Captioner, CaptionTokens
from .errors import ExecutionError
from .runners import Runner, open_runners

MAX_CAPTIONS = 32  # of one picture in one call of the salience graph: bounds its memory


class Reading(NamedTuple):
    """One caption read in one pass: salience float32 [T, P], and the ITM match probability.

    Of a model exported with --all-heads, salience is [L, H, T, P].
    """

    salience: np.ndarray
    match: float


@dataclass(frozen=True)
class Network:
    """The two graphs of a model and what is needed to feed them."""

    vision: Runner
    salience: Runner
    captioner: Captioner
    manifest: Manifest

    @classmethod
    def open(cls, model: Artifact, *, backend: str = "auto", device: str = "auto") -> Network:
        """Load the graphs of a model folder.

        Raises:
            ModelError: the tokenizer cannot be read.
            BackendError: the backend or the device cannot be had.
        """
        captioner = Captioner.load(model)
        vision, salience = open_runners(model, backend=backend, device=device)
        return cls(vision, salience, captioner, model.manifest)

    def close(self) -> None:
        """Free both graphs."""
        self.vision.close()
        self.salience.close()

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """[B, 3, S, S] -> [B, 1 + P, D]."""
        return self.vision.run({"pixel_values": pixels})["image_embeds"]

    def match(self, embeds: np.ndarray, captions: Sequence[CaptionTokens]) -> np.ndarray:
        """ITM match probability of each caption with one picture, float32 [N].

        Args:
            embeds: of the picture, [1 + P, D].
            captions: any number of them.
        """
        keep = np.ones((1, len(embeds) - 1), np.float32)
        logits = [
            self._run(self._feeds(embeds[None], keep, part), ["itm_logits"])["itm_logits"]
            for part in _parts(captions)
        ]
        return _match_probability(np.concatenate(logits))

    def read(
        self, embeds: np.ndarray, keep: np.ndarray, captions: Sequence[Sequence[CaptionTokens]]
    ) -> list[list[Reading]]:
        """Salience of every caption of every picture.

        Pictures with one caption each share a call; the captions of one picture share its keys and
        values.

        Args:
            embeds: [B, 1 + P, D].
            keep: [B, P], 0 where cross-attention must not look.
            captions: of each picture.
        """
        if all(len(own) == 1 for own in captions):
            return [[one] for one in self._read(embeds, keep, [own[0] for own in captions])]
        return [
            [
                one
                for part in _parts(own)
                for one in self._read(embeds[i : i + 1], keep[i : i + 1], part)
            ]
            for i, own in enumerate(captions)
        ]

    def _read(
        self, embeds: np.ndarray, keep: np.ndarray, captions: Sequence[CaptionTokens]
    ) -> list[Reading]:
        out = self._run(self._feeds(embeds, keep, captions))
        return [
            Reading(salience[..., : len(caption.ids), :], float(match))
            for caption, salience, match in zip(
                captions, out["salience"], _match_probability(out["itm_logits"]), strict=True
            )
        ]

    def _run(
        self, feeds: dict[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        out = self.salience.run(feeds, outputs)
        for name, value in out.items():
            if not np.isfinite(value).all():
                raise ExecutionError(
                    f"the model's {name} is not finite", "its weights are damaged: export it again"
                )
        return out

    def _feeds(
        self, embeds: np.ndarray, keep: np.ndarray, captions: Sequence[CaptionTokens]
    ) -> dict[str, np.ndarray]:
        ids, mask = self.captioner.pad(captions)
        return {
            "image_embeds": embeds,
            "input_ids": ids,
            "attention_mask": mask,
            "patch_keep": keep,
        }


def _parts(captions: Sequence[CaptionTokens]) -> Iterator[Sequence[CaptionTokens]]:
    for start in range(0, len(captions), MAX_CAPTIONS):
        yield captions[start : start + MAX_CAPTIONS]


def _match_probability(logits: np.ndarray) -> np.ndarray:
    return reference.softmax(logits.T)[1]
