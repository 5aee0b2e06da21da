"""Which of the named classes are in a picture, and where: everything up to the class maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from .caption import CaptionTokens
from .dropout import class_maps, salience_dropout
from .images import preprocess
from .network import Network
from .settings import Settings

Present = Literal["given", "match"]


@dataclass(frozen=True)
class Query:
    """A picture and the classes to look for in it.

    Attributes:
        image: RGB.
        classes: C names, clean.
        alone: a caption for each class by itself.
    """

    image: Image.Image
    classes: list[str]
    alone: list[CaptionTokens]


@dataclass(frozen=True)
class Found:
    """What the model says about a picture.

    Attributes:
        query: what was asked.
        scores: float32 [C], the match probability of each class by itself.
        present: indices of the classes that were looked for.
        class_maps: float32 [C, p, p]; zero for the others.
        match: float32 [K]; empty where no class was looked for.
    """

    query: Query
    scores: np.ndarray
    present: list[int]
    class_maps: np.ndarray
    match: np.ndarray


def search(
    network: Network, queries: Sequence[Query], settings: Settings, present: Present
) -> list[Found]:
    """Search a batch of pictures.

    Args:
        network: the model.
        queries: pictures and classes.
        settings: of the passes.
        present: "given" looks for every class, "match" for those that score above the threshold.
    """
    if not queries:
        return []
    pixels = np.stack([preprocess(query.image, network.manifest.image_size) for query in queries])
    embeds = network.embed(pixels)
    level = settings.match_threshold if present == "match" else -np.inf
    found = [
        _scored(query, network.match(own, query.alone), level, network.manifest.grid)
        for query, own in zip(queries, embeds, strict=True)
    ]
    rows = [row for row, one in enumerate(found) if one.present]
    if not rows:
        return found
    captions = [_captions(network, found[row], settings) for row in rows]
    totals = salience_dropout(network, pixels[rows], embeds[rows], captions, settings)
    for row, written, total in zip(rows, captions, totals, strict=True):
        maps = class_maps(
            total.salience,
            written,
            len(found[row].scores),
            sum_last=settings.sum_last_class,
        )
        found[row] = replace(found[row], class_maps=maps, match=total.match)
    return found


def _scored(query: Query, scores: np.ndarray, level: float, grid: int) -> Found:
    return Found(
        query,
        scores,
        present=np.flatnonzero(scores > level).tolist(),
        class_maps=np.zeros((len(scores), grid, grid), np.float32),
        match=np.zeros(0, np.float32),
    )


def _captions(network: Network, found: Found, settings: Settings) -> list[CaptionTokens]:
    names = [found.query.classes[index] for index in found.present]
    return network.captioner.write(names, indices=found.present, join=settings.join_words)
