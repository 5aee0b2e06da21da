"""What a data set is: images with masks, and the facts that an evaluation needs of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from ...errors import InputError, shown
from ...inputs.names import Index, clean_names
from ...settings import Settings


@dataclass(frozen=True, eq=False)
class Sample:
    """An image with its truth.

    Attributes:
        image: RGB.
        truth: integers [H, W] of any dtype: 0 background, i + 1 = the i-th name of the data set's
            vocabulary, or the data set's `ignore`.
        classes: names of the classes in the image, spelled as in the vocabulary; empty if it is all
            background.
    """

    image: Image.Image
    truth: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Images with masks.

    Where `sample` can be pickled, processes can share the images out.

    Attributes:
        name: name on the command line.
        vocabulary: names of all V classes, which differ in more than case and white space.
        background: rule for the labels, see `Settings.background`: "always" where the truth has a
            background, "auto" where classes cover it all.
        images: number of images.
        sample: function that reads the image at an index; images may differ in size. `read` calls
            it, and checks what it returns.
        ignore: value in a truth, such as 255, whose pixels count nowhere; None for no such value.

    Raises:
        InputError: a name of the vocabulary is empty or there twice, or has stray white space.
    """

    name: str
    vocabulary: tuple[str, ...]
    background: Literal["always", "auto"]
    images: int
    sample: Callable[[int], Sample]
    ignore: int | None = None

    def __post_init__(self) -> None:
        """Refuse names that a model would be given in another spelling."""
        for name, clean in zip(self.vocabulary, clean_names(self.vocabulary), strict=True):
            if not isinstance(name, str):
                raise InputError(
                    f"a class of {self.name} is {shown(name)}", "a data set has one name for each"
                )
            if name != clean:
                raise InputError(
                    f"class {name!r} of {self.name} has stray white space", f"name it {clean!r}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each number in a truth, [1 + V]."""
        return ("background", *self.vocabulary)

    @property
    def first_class(self) -> int:
        """First number that counts in the means: 1 where there is no background, else 0."""
        return 0 if self.background == "always" else 1

    def numbers(self, classes: Sequence[str]) -> np.ndarray:
        """Return the number of each label of C names in the data set, uint16 [1 + C].

        Raises:
            InputError: a name is not in the vocabulary.
        """
        return class_numbers(self.vocabulary, classes)

    def read(self, index: int) -> Sample:
        """Read an image.

        Raises:
            InputError: one of its classes is not in the vocabulary, or is named twice.
        """
        sample = self.sample(index)
        for position, name in enumerate(sample.classes):
            where = f"image {index} of {self.name}: class {name!r}"
            if name not in self.vocabulary:
                raise InputError(
                    f"{where} is not in the vocabulary",
                    "spell the classes of an image as the vocabulary of its data set does",
                )
            if name in sample.classes[:position]:
                raise InputError(f"{where} is named twice", "name each class of an image once")
        return sample

    def adapt(self, settings: Settings) -> Settings:
        """Return settings with the data set's rule about the background."""
        return replace(settings, background=self.background)

    def indices(self, images: int | Sequence[int] | None = None) -> Sequence[int]:
        """Return the indices of some images.

        Args:
            images: how many, from the first; or the indices, each once; all by default.

        Raises:
            InputError: the data set has no such images.
        """
        if images is None:
            return range(self.images)
        if isinstance(images, int | np.integer):
            if not 1 <= images <= self.images:
                raise InputError(
                    f"{images} images were asked for, and {self.name} has {self.images}",
                    f"ask for 1 to {self.images}",
                )
            return range(int(images))
        wrong = [index for index in images if not 0 <= index < self.images]
        if wrong or len(set(images)) < len(images):
            raise InputError(
                f"{self.name} has no image {wrong[0]}"
                if wrong
                else f"an image of {self.name} was asked for twice",
                f"its images go from 0 to {self.images - 1}; name each once",
            )
        return images


def class_numbers(vocabulary: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return the number of each label of C names: 0, then 1 + its index in the vocabulary.

    Args:
        vocabulary: names of all V classes of a data set.
        classes: C names out of the vocabulary, in any case and white space.

    Returns:
        uint16 [1 + C].

    Raises:
        InputError: a name is not in the vocabulary.
    """
    index = Index(vocabulary)
    numbers = [1 + index.find(name, "in the vocabulary") for name in classes]
    return np.array([0, *numbers], np.uint16)
