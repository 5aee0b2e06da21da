"""Hold the result of a segmentation: a label for every pixel, and what led to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import InputError
from ..inputs.images import ImageLike, load_rgb
from ..inputs.names import Index
from . import interop, overlay
from .palette import class_colors


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """The segmentation of one image of H x W pixels into C named classes.

    Attributes:
        labels: label of each pixel, uint16 [H, W]: 0 background, i + 1 = classes[i].
        class_maps: class maps before the threshold, float32 [C, gh, gw]: salience summed over the
            passes, the largest of a class's names.
        match: match probability of image and caption in each pass, float32 [K]. It is averaged over
            captions where the classes needed several, and empty where no class was looked for.
        scores: match probability of the image and a caption of each class alone, float32 [C]; the
            largest of a class's names.
        classes: titles of the C classes, which are their first names, as they were used.
        present: whether each class was looked for, C values; all true unless `present="match"` was
            asked for.
        synonyms: further names of the classes that have several, by title.
    """

    labels: npt.NDArray[np.uint16]
    class_maps: npt.NDArray[np.float32]
    match: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    present: tuple[bool, ...]
    synonyms: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def __repr__(self) -> str:
        height, width = self.labels.shape
        areas = [
            f"{name!r}: {area}" for name, area in zip(self.classes, self.areas()[1:], strict=True)
        ]
        return f"Segmentation({width}x{height}, pixels {{{', '.join(areas)}}})"

    def mask(self, name: str) -> npt.NDArray[np.bool_]:
        """Return the mask of a class, bool [H, W].

        Args:
            name: title or synonym of the class, in any case and white space.

        Raises:
            InputError: no class has the name.
        """
        return self.labels == self._index.find(name, "in this result") + 1

    @cached_property
    def _index(self) -> Index:
        return Index(self.classes, self.synonyms)

    def areas(self) -> npt.NDArray[np.int64]:
        """Count the pixels of the background and of each class, int64 [1 + C]."""
        count = len(self.classes) + 1
        areas = np.zeros(count, np.int64)
        for row in self.labels:  # a row at a time, as NumPy counts by a copy of 8 bytes a pixel
            areas += np.bincount(row, minlength=count)
        return areas

    def label_image(self) -> Image.Image:
        """Make a palette image of the labels (mode P); 16-bit grays for more than 255 classes."""
        if len(self.classes) > 255:
            return Image.fromarray(self.labels)
        image = Image.fromarray(self.labels.astype(np.uint8), mode="P")
        image.putpalette(class_colors(len(self.classes)).ravel().tolist())
        return image

    def overlay(self, image: ImageLike, *, legend: bool = True) -> Image.Image:
        """Draw the image with its classes colored and outlined, RGB, of a readable size.

        Args:
            image: the image that was segmented.
            legend: whether the class names are added below.

        Raises:
            InputError: the image's size is not that of the labels.
        """
        rgb = load_rgb(image)
        self.require_image(rgb)
        palette = class_colors(len(self.classes))
        drawn = overlay.draw(rgb, self.labels, palette)
        if not legend:
            return drawn
        shares = self.areas()[1:] / self.labels.size
        return overlay.add_legend(drawn, self.classes, palette, shares, self.present)

    def require_image(self, image: Image.Image) -> None:
        """Refuse an image that cannot be the one that was segmented.

        Raises:
            InputError: the image's size is not that of the labels.
        """
        if image.size != self.labels.shape[::-1]:
            height, width = self.labels.shape
            raise InputError(
                f"the image is {image.width}x{image.height}, its labels are {width}x{height}",
                "give the image that was segmented",
            )

    def to_coco(
        self, *, image_id: int | str | None = None, first_id: int = 1
    ) -> list[dict[str, Any]]:
        """Make a COCO annotation (id, RLE, area, bbox, score) for each class that has a pixel.

        Args:
            image_id: id of the image in its data set, which annotations need to be one's part.
            first_id: id of the first annotation; the next are 1 more each. For the next image, add
                the number of annotations.

        Raises:
            InputError: an id is negative, or of another type.
            BackendError: pycocotools is not installed.
        """
        return interop.coco_annotations(
            self.labels, self.classes, self.scores, image_id=image_id, first_id=first_id
        )

    def to_supervision(self) -> Any:
        """Make `supervision.Detections`: a mask for each class that has a pixel.

        Raises:
            BackendError: supervision is not installed.
        """
        return interop.supervision_detections(self.labels, self.classes, self.scores)
