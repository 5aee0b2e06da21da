"""Draws true and false captions of an image."""

from __future__ import annotations

import numpy as np

from pnp_ovss.engine.evaluation.datasets.stickers.classes import CLASSES

PER_IMAGE = 4
_SINGLE = 0.6  # part of the captions that name one class; by chance some of the others do too


def sample(
    rng: np.random.Generator, present: np.ndarray, odds: np.ndarray
) -> list[tuple[list[str], bool]]:
    """Draw captions of one image, half of them true.

    A false caption swaps one of its classes for a class that is absent from the image.

    Args:
        rng: Random number generator.
        present: Whether each class is in the image, bool [C].
        odds: Odds of each class to be named by a false caption, above 0, float [C].

    Returns:
        Class names of each caption, in their order, and whether the caption is true.
    """
    present_classes = np.flatnonzero(present)
    odds = np.where(present, 0, odds)
    captions = []
    for number in range(PER_IMAGE):
        named = rng.permutation(present_classes)
        named = named[:1] if rng.random() < _SINGLE else named[: rng.integers(1, len(named) + 1)]
        true = number % 2 == 0
        if not true:
            named[rng.integers(len(named))] = rng.choice(len(odds), p=odds / odds.sum())
        captions.append(([CLASSES[index] for index in named], true))
    return captions
