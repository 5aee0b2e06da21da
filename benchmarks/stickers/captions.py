"""True and false captions of a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .classes import CLASSES

PER_PICTURE = 4
_ALONE = 0.6  # of the captions name a single class, and by chance some of the others


def sample(rng: np.random.Generator, present: Sequence[str]) -> list[tuple[list[str], bool]]:
    """Captions of one picture, half of them true.

    A false caption swaps one of its classes for one that is not in the picture.

    Args:
        rng: source of chance.
        present: the classes in the picture.

    Returns:
        The classes that each caption names, in its order, and whether all of them are there.
    """
    absent = [name for name in CLASSES if name not in present]
    captions = []
    for number in range(PER_PICTURE):
        named = rng.permutation(np.array(present)).tolist()
        named = named[:1] if rng.random() < _ALONE else named[: rng.integers(1, len(named) + 1)]
        true = number % 2 == 0
        if not true:
            named[rng.integers(len(named))] = absent[rng.integers(len(absent))]
        captions.append((named, true))
    return captions
