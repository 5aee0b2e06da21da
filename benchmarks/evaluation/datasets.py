"""The data sets that can be evaluated on, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from ..stickers import scenes
from ..stickers.classes import CLASSES, STICKERS


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture with its truth.

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
    """Pictures with masks.

    Attributes:
        name: on the command line.
        vocabulary: every class of it.
        background: the rule for its labels, see `Settings.background`: "always" where its truth has
            a background, "auto" where classes cover it all.
        pictures: how many there are.
        sample: the picture at an index.
    """

    name: str
    vocabulary: tuple[str, ...]
    background: Literal["always", "auto"]
    pictures: int
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


def sticker_scenes(
    kind: scenes.Kind, seed: int = scenes.VALIDATION_SEED, name: str = ""
) -> Dataset:
    """Sticker scenes of a kind: by default the validation set."""
    vocabulary = tuple(STICKERS) if kind == "stickers" else CLASSES

    def sample(index: int) -> Sample:
        scene = scenes.scene(kind, seed, index)
        return Sample(scene.image, dataset.numbers(scene.classes)[scene.labels], scene.classes)

    dataset = Dataset(
        name=name or kind,
        vocabulary=vocabulary,
        background="always" if kind == "stickers" else "auto",
        pictures=scenes.VALIDATION_PICTURES,
        sample=sample,
    )
    return dataset


DATASETS = {
    dataset.name: dataset
    for dataset in (
        sticker_scenes("stickers"),
        sticker_scenes("context", name="stickers-context"),
    )
}
