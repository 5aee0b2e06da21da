"""Which of the named classes are in an image, and where: everything up to the class maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ...device import Array, Device
from ...inputs.text import CaptionTokens
from ...model.manifest import Preprocess
from ...runners.placement import Placement
from ...settings import Settings
from ..base import Located, Request
from .captions import CaptionBatch
from .graphs import Graphs
from .passes import salience_dropout


class PnpOvss:
    """PnP-OVSS with a loaded model; see `base.Method`.

    Args:
        graphs: of the model.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        self.preprocess: Preprocess = graphs.manifest.preprocess

    @property
    def device(self) -> Device:
        """Where the model runs."""
        return self.graphs.device

    @property
    def placement(self) -> Placement:
        """What runs the graphs."""
        return self.graphs.runners.placement

    def encode(self, classes: Sequence[str], settings: Settings) -> list[CaptionTokens]:
        """A caption for each class by itself, by which it is scored.

        Raises:
            InputError: a name cannot be written in the model's vocabulary.
        """
        write = self.graphs.captioner.write
        return [write([name], join=settings.join_words)[0] for name in classes]

    def locate(self, requests: Sequence[Request]) -> list[Located]:
        """Class maps of a batch.

        Requests of the same settings, but for those of refinement, share their passes. Only
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
        """Those of requests whose passes are the same; the keys are kept."""
        graphs, requests = self.graphs, list(group.values())
        images = self.device.xp.asarray(np.stack([request.pixels for request in requests]))
        pixels = graphs.normalize(images)
        embeds = graphs.embed(pixels)
        scores = [
            graphs.match_probability(graphs.match(own, request.query))
            for own, request in zip(embeds, requests, strict=True)
        ]
        present = [
            _present(request, own, self.device)
            for request, own in zip(requests, scores, strict=True)
        ]
        rows = [row for row, own in enumerate(present) if own.any()]
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
        self, pixels: Array, embeds: Array, chosen: Sequence[tuple[Request, np.ndarray]]
    ) -> list[tuple[Array, Array]]:
        """Class maps [M, gh, gw] and match [K] of each image, by the passes of the first."""
        graphs, settings = self.graphs, chosen[0][0].settings
        captions = CaptionBatch.of(
            graphs.captioner,
            [_captions(graphs, request, present) for request, present in chosen],
            self.device,
            sum_last=settings.sum_last_class,
        )
        total, logits = salience_dropout(graphs, pixels, embeds, captions, settings)
        maps = self.device.kernels.class_maps(
            total, captions.members, captions.first_member, captions.summed
        ).reshape(-1, *self.preprocess.grid)
        match = graphs.match_probability(logits)  # [K, captions]
        return [
            (
                maps[captions.first_class[row] : captions.first_class[row + 1]],
                match[:, captions.first[row] : captions.first[row + 1]].mean(axis=1),
            )
            for row in range(len(chosen))
        ]

    def _nothing(self) -> tuple[Array, Array]:
        """Maps and match of an image in which no class is looked for."""
        xp = self.device.xp
        return xp.zeros((0, *self.preprocess.grid), np.float32), xp.zeros(0, np.float32)


def _by_passes(requests: Sequence[Request]) -> list[dict[int, Request]]:
    """Requests by their positions, in groups whose passes are the same."""
    groups: dict[Settings, dict[int, Request]] = {}
    for position, request in enumerate(requests):
        groups.setdefault(request.settings.of_passes(), {})[position] = request
    return list(groups.values())


def _present(request: Request, scores: Array, device: Device) -> np.ndarray:
    """Bool [C]: the classes to look for."""
    if request.present == "given":
        return np.ones(len(request.classes), bool)
    return device.to_host(scores) > request.settings.match_threshold


def _captions(graphs: Graphs, request: Request, present: np.ndarray) -> list[CaptionTokens]:
    indices = np.flatnonzero(present).tolist()
    names = [request.classes[index] for index in indices]
    return graphs.captioner.write(names, indices=indices, join=request.settings.join_words)
