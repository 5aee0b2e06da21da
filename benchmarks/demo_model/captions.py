"""True and false captions of a picture."""

from __future__ import annotations

import numpy as np

from pnp_ovss.engine.evaluation.datasets.stickers.classes import CLASSES

PER_PICTURE = 4
_ALONE = 0.6  # of the captions name a single class, and by chance some of the others


def sample(
    rng: np.random.Generator, present: np.ndarray, odds: np.ndarray
) -> list[tuple[list[str], bool]]:
    """Captions of one picture, half of them true.

    A false caption swaps one of its classes for one that is not in the picture.

    Args:
        rng: source of chance.
        present: whether each class is in the picture, bool [C].
        odds: how readily each class is named where it is absent, [C], above 0.

    Returns:
        The classes that each caption names, in its order, and whether all of them are there.
    """
    there = np.flatnonzero(present)
    odds = np.where(present, 0, odds)
    captions = []
    for number in range(PER_PICTURE):
        named = rng.permutation(there)
        named = named[:1] if rng.random() < _ALONE else named[: rng.integers(1, len(named) + 1)]
        true = number % 2 == 0
        if not true:
            named[rng.integers(len(named))] = rng.choice(len(odds), p=odds / odds.sum())
        captions.append(([CLASSES[index] for index in named], true))
    return captions
