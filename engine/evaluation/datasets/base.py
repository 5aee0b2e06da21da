"""What a data set is: images with masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image


@dataclass(frozen=True, eq=False)
class Sample:
    """An image with its truth.

    Attributes:
        image: RGB.
        truth: uint16 [H, W], 0 background, i + 1 = the i-th name of the data set's vocabulary.
        classes: the names of what is in it.
    """

    image: Image.Image
    truth: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Images with masks.

    Attributes:
        name: on the command line.
        vocabulary: every class of it.
        background: the rule for its labels, see `Settings.background`: "always" where its truth has
            a background, "auto" where classes cover it all.
        images: how many there are.
        sample: the image at an index.
    """

    name: str
    vocabulary: tuple[str, ...]
    background: Literal["always", "auto"]
    images: int
    sample: Callable[[int], Sample]

    @property
    def names(self) -> tuple[str, ...]:
        """What each number in a truth stands for."""
        return ("background", *self.vocabulary)

    @property
    def first_class(self) -> int:
        """The first number that counts in the means: 1 where there is no background, else 0."""
        return 0 if self.background == "always" else 1

    def numbers(self, classes: Sequence[str]) -> np.ndarray:
        """A lookup from labels of a list of names to those of the data set, uint16 [1 + C]."""
        return np.array([0, *map(self.names.index, classes)], np.uint16)
