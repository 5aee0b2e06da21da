"""Salience DropOut: K passes over a batch, each without the patches found before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from ..kernels import reference
from .caption import CaptionTokens
from .network import Network
from .settings import Settings


@dataclass(frozen=True)
class Accumulated:
    """What the passes found in one picture.

    Attributes:
        salience: per caption, float32 [T, P], summed over the passes.
        match: float32 [K], the ITM match probability in each pass, averaged over the captions.
    """

    salience: list[np.ndarray]
    match: np.ndarray


def salience_dropout(
    network: Network,
    pixels: np.ndarray,
    embeds: np.ndarray,
    captions: Sequence[Sequence[CaptionTokens]],
    settings: Settings,
) -> list[Accumulated]:
    """Run the K passes.

    Args:
        network: the model.
        pixels: preprocessed pictures, float32 [B, 3, S, S].
        embeds: their image embeddings with no patch dropped, [B, 1 + P, D].
        captions: the captions of each picture, at least one. Patches are dropped for a picture as a
            whole, by their salience over the class tokens of all of its captions.
        settings: passes, schedule, drop mode, weight of the first pass.

    Returns:
        For each picture, what was accumulated; it does not depend on the rest of the batch.
    """
    dropped = np.zeros((len(pixels), embeds.shape[1] - 1), bool)
    patches = dropped.shape[1]
    totals = [[np.zeros((len(c.ids), patches), np.float32) for c in own] for own in captions]
    matches: list[list[float]] = []
    for index in range(settings.passes):
        keep = np.ones(dropped.shape, np.float32)
        if index and settings.drop_mode == "attention":
            keep[dropped] = 0
        elif index:
            embeds = network.embed(
                reference.blank_patches(pixels, dropped, network.manifest.patch_size)
            )
        readings = network.read(embeds, keep, captions)
        salience = [
            [one.salience * ~gone for one in own]
            for own, gone in zip(readings, dropped, strict=True)
        ]
        weight = np.float32(1 if index else settings.first_pass_weight)
        for total, values in zip(chain(*totals), chain(*salience), strict=True):
            total += weight * values
        matches.append([float(np.mean([one.match for one in own])) for own in readings])
        if index < settings.passes - 1:
            dropped = np.stack(
                [
                    _drop(values, own, gone, settings.drop_schedule)
                    for values, own, gone in zip(salience, captions, dropped, strict=True)
                ]
            )
    match = np.array(matches, np.float32).T
    return [Accumulated(total, row) for total, row in zip(totals, match, strict=True)]


def class_maps(
    salience: Sequence[np.ndarray],
    captions: Sequence[CaptionTokens],
    classes: int,
    *,
    sum_last: bool = False,
) -> np.ndarray:
    """Salience of each class: the mean over its tokens, float32 [classes, p, p].

    Args:
        salience: per caption, [T, P].
        captions: the captions themselves.
        classes: how many maps to return; those of classes in no caption are zero.
        sum_last: sum over the tokens of each caption's last class instead.
    """
    grid = round(salience[0].shape[1] ** 0.5)
    maps = np.zeros((classes, grid * grid), np.float32)
    for values, caption in zip(salience, captions, strict=True):
        for index, tokens in caption.owners:
            maps[index] = values[tokens].mean(axis=0)
        if sum_last:
            index, tokens = caption.owners[-1]
            maps[index] = values[tokens].sum(axis=0)
    return maps.reshape(classes, grid, grid)


def _drop(
    salience: Sequence[np.ndarray],
    captions: Sequence[CaptionTokens],
    dropped: np.ndarray,
    schedule: int | Literal["halving"],
) -> np.ndarray:
    scores = np.zeros(dropped.shape, np.float32)
    for values, caption in zip(salience, captions, strict=True):
        tokens = [token for _, owned in caption.owners for token in owned]
        scores += values[tokens].sum(axis=0)
    count = np.count_nonzero(~dropped) // 2 if schedule == "halving" else schedule
    return reference.drop_salient(scores, dropped, count)
