"""Which of the named classes are in a picture, and where: everything up to the class maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from .caption import CaptionTokens
from .caption_batch import CaptionBatch
from .device import Array
from .dropout import salience_dropout
from .images import MEAN, STD
from .network import Network, match_probability
from .settings import Settings

Present = Literal["given", "match"]


@dataclass(frozen=True, eq=False)
class Query:
    """A picture and the classes to look for in it.

    Attributes:
        image: RGB.
        square: the picture at the model's size, uint8 [S, S, 3].
        classes: C names, clean.
        alone: a caption for each class by itself.
    """

    image: Image.Image
    square: np.ndarray
    classes: list[str]
    alone: list[CaptionTokens]


@dataclass(frozen=True, eq=False)
class Found:
    """What the model says about a picture; arrays are on its device.

    Attributes:
        query: what was asked.
        present: indices of the classes that were looked for.
        alone_logits: float32 [C, 2], ITM logits of each class by itself.
        logits: float32 [K, captions, 2] of the passes; None where no class was looked for.
        class_maps: float32 [present, p, p]; likewise.
        mark: what must be done before the arrays can be read; see `Device.beside`.
    """

    query: Query
    present: list[int]
    alone_logits: Array
    logits: Array | None = None
    class_maps: Array | None = None
    mark: Any = None


def search(
    network: Network, queries: Sequence[Query], settings: Settings, present: Present
) -> list[Found]:
    """Search a batch of pictures.

    Args:
        network: the model.
        queries: pictures and classes.
        settings: of the passes.
        present: "given" looks for every class, "match" for those that score above the threshold;
            only that has to wait for a GPU.
    """
    if not queries:
        return []
    device = network.device
    with device.use():
        squares = device.xp.asarray(np.stack([query.square for query in queries]))
        pixels = device.kernels.normalise(squares, MEAN, STD)
        embeds = network.embed(pixels)
        found = [
            _matched(network, *each, settings, present)
            for each in zip(queries, embeds, strict=True)
        ]
        rows = [row for row, one in enumerate(found) if one.present]
        if rows:
            if len(rows) < len(found):
                pixels, embeds = pixels[rows], embeds[rows]
            looked_for = [found[row] for row in rows]
            for row, one in zip(
                rows, _looked_for(network, pixels, embeds, looked_for, settings), strict=True
            ):
                found[row] = one
        mark = device.mark()
    return [replace(one, mark=mark) for one in found]


def _matched(
    network: Network, query: Query, embeds: Array, settings: Settings, present: Present
) -> Found:
    logits = network.match(embeds, query.alone)
    if present == "given":
        return Found(query, list(range(len(query.classes))), logits)
    scores = match_probability(network.device.to_host(logits))
    return Found(query, np.flatnonzero(scores > settings.match_threshold).tolist(), logits)


def _looked_for(
    network: Network, pixels: Array, embeds: Array, found: Sequence[Found], settings: Settings
) -> list[Found]:
    """With class maps, and logits of the passes."""
    captions = CaptionBatch.of(
        network.captioner,
        [_captions(network, one, settings) for one in found],
        network.device,
        sum_last=settings.sum_last_class,
    )
    total, logits = salience_dropout(network, pixels, embeds, captions, settings)
    maps = network.device.kernels.class_maps(
        total, captions.members, captions.first_member, captions.summed
    ).reshape(-1, network.manifest.grid, network.manifest.grid)
    return [
        replace(
            one,
            logits=logits[:, captions.first[row] : captions.first[row + 1]],
            class_maps=maps[captions.first_class[row] : captions.first_class[row + 1]],
        )
        for row, one in enumerate(found)
    ]


def _captions(network: Network, found: Found, settings: Settings) -> list[CaptionTokens]:
    names = [found.query.classes[index] for index in found.present]
    return network.captioner.write(names, indices=found.present, join=settings.join_words)
