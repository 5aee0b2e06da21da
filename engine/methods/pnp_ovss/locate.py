"""Locate classes by PnP-OVSS: from images and captions to class maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...device import Array, Device
from ...inputs.names import CleanClass
from ...inputs.text import CaptionTokens
from ...model.manifest import Preprocess
from ...runners.placement import Placement
from ...settings import Settings
from ...tracing import span
from ..base import Located, Request
from .captions import CaptionBatch, largest_of_names
from .graphs import Graphs
from .passes import salience_dropout


class PnpOvss:
    """PnP-OVSS with a loaded model; see `base.Method`.

    Args:
        graphs: graphs of the model.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        self.preprocess: Preprocess = graphs.manifest.preprocess

    @property
    def device(self) -> Device:
        """Device of the model."""
        return self.graphs.device

    @property
    def placement(self) -> Placement:
        """What runs the graphs."""
        return self.graphs.runners.placement

    def encode(self, classes: Sequence[CleanClass], settings: Settings) -> list[CaptionTokens]:
        """Write a caption for each name by itself, by which it is scored.

        Raises:
            InputError: a name cannot be written in the model's vocabulary, or two are alike in it.
        """
        return self.graphs.captioner.write_each(classes, join=settings.join_words)

    def locate(self, requests: Sequence[Request]) -> list[Located]:
        """Make class maps of a batch of requests.

        Requests share their passes if their settings differ at most in those of refinement. Only
        `present="match"` has to wait for a GPU.
        """
        located: dict[int, Located] = {}
        with self.device.on_stream():
            for group in _by_passes(requests):
                located.update(self._locate(group))
            event = self.device.record()
        return [
            replace(located[position], device=self.device, event=event)
            for position in range(len(requests))
        ]

    def close(self) -> None:
        """Free the model."""
        self.graphs.runners.close()

    def _locate(self, group: dict[int, Request]) -> Iterable[tuple[int, Located]]:
        """Make class maps of requests whose passes are the same; keep their keys."""
        graphs, requests = self.graphs, list(group.values())
        with span("preprocess"):
            images = self.device.xp.asarray(np.stack([request.pixels for request in requests]))
            pixels = graphs.normalize(images)
        with span("vision"):
            embeds = graphs.embed(pixels)
        with span("match"):
            scores = [
                largest_of_names(
                    graphs.match_probability(graphs.match(image, request.query)).astype(np.float32),
                    request.query,
                    self.device,
                )
                for image, request in zip(embeds, requests, strict=True)
            ]
        present = [
            _present(request, of_classes, self.device)
            for request, of_classes in zip(requests, scores, strict=True)
        ]
        rows = [row for row, of_classes in enumerate(present) if of_classes.any()]
        if rows and len(rows) < len(requests):
            pixels, embeds = pixels[rows], embeds[rows]
        chosen = [(requests[row], present[row]) for row in rows]
        maps = dict(zip(rows, self._maps(pixels, embeds, chosen), strict=True)) if rows else {}
        nothing = self._nothing()
        return [
            (
                key,
                Located(
                    maps=maps.get(row, nothing)[0],
                    class_of=np.flatnonzero(present[row]),
                    present=present[row],
                    scores=scores[row],
                    match=maps.get(row, nothing)[1],
                ),
            )
            for row, key in enumerate(group)
        ]

    def _maps(
        self, pixels: Array, embeds: Array, chosen: Sequence[tuple[Request, npt.NDArray[np.bool_]]]
    ) -> list[tuple[Array, Array]]:
        """Make class maps [M, gh, gw] and match [K] of each image; all have the same passes."""
        graphs, settings = self.graphs, chosen[0][0].settings
        with span("encode"):
            written = [_captions(graphs, request, present) for request, present in chosen]
            captions = CaptionBatch.of(
                graphs.captioner, written, self.device, sum_last=settings.sum_last_class
            )
        total, logits = salience_dropout(graphs, pixels, embeds, captions, settings)
        maps = self.device.kernels.class_maps(
            total, captions.members, captions.first_member, captions.summed
        ).reshape(-1, *self.preprocess.grid)
        match = graphs.match_probability(logits)  # [K, captions]
        return [
            (
                largest_of_names(
                    maps[captions.first_class[row] : captions.first_class[row + 1]],
                    of_image,
                    self.device,
                ),
                match[:, captions.first[row] : captions.first[row + 1]]
                .mean(axis=1)
                .astype(np.float32),
            )
            for row, of_image in enumerate(written)
        ]

    def _nothing(self) -> tuple[Array, Array]:
        """Make empty class maps and match, for an image in which no class is looked for."""
        xp = self.device.xp
        return xp.zeros((0, *self.preprocess.grid), np.float32), xp.zeros(0, np.float32)


def _by_passes(requests: Sequence[Request]) -> list[dict[int, Request]]:
    """Group requests, by their positions, so that each group has the same passes."""
    groups: dict[Settings, dict[int, Request]] = {}
    for position, request in enumerate(requests):
        groups.setdefault(request.settings.of_passes(), {})[position] = request
    return list(groups.values())


def _present(request: Request, scores: Array, device: Device) -> npt.NDArray[np.bool_]:
    """Choose the classes to look for, bool [C]."""
    if request.present == "given":
        return np.ones(len(request.classes), bool)
    return device.to_host(scores) > request.settings.match_threshold


def _captions(
    graphs: Graphs, request: Request, present: npt.NDArray[np.bool_]
) -> list[CaptionTokens]:
    indices: list[int] = np.flatnonzero(present).tolist()
    names = request.names
    chosen = [names[index] for index in indices]
    return graphs.captioner.write(chosen, indices=indices, join=request.settings.join_words)
