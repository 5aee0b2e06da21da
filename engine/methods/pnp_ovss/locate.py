"""Which of the named classes are in a picture, and where: everything up to the class maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...device import Array
from ...inputs.images import MEAN, STD
from ...inputs.text import CaptionTokens
from ...settings import Settings
from ..base import Located, Present, Request
from .captions import CaptionBatch
from .graphs import Network, match_probability
from .passes import salience_dropout


def search(
    network: Network, queries: Sequence[Request], settings: Settings, present: Present
) -> list[Located]:
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
    with device.on_stream():
        squares = device.xp.asarray(np.stack([query.square for query in queries]))
        pixels = device.kernels.normalize(squares, MEAN, STD)
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
        mark = device.record()
    return [replace(one, mark=mark) for one in found]


def _matched(
    network: Network, query: Request, embeds: Array, settings: Settings, present: Present
) -> Located:
    logits = network.match(embeds, query.alone)
    if present == "given":
        return Located(query, list(range(len(query.classes))), logits)
    scores = match_probability(network.device.to_host(logits))
    return Located(query, np.flatnonzero(scores > settings.match_threshold).tolist(), logits)


def _looked_for(
    network: Network, pixels: Array, embeds: Array, found: Sequence[Located], settings: Settings
) -> list[Located]:
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


def _captions(network: Network, found: Located, settings: Settings) -> list[CaptionTokens]:
    names = [found.query.classes[index] for index in found.present]
    return network.captioner.write(names, indices=found.present, join=settings.join_words)
