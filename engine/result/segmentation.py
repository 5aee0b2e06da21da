"""The result: a label for every pixel, and what led to it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import BackendError, InputError
from ..inputs.images import ImageLike, load_rgb
from . import overlay
from .palette import class_colors


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segmentation of one picture of H x W pixels into C named classes.

    Attributes:
        labels: uint16 [H, W]: 0 background, i + 1 = classes[i].
        class_maps: float32 [C, p, p]: accumulated salience, before the threshold.
        match: float32 [K]: ITM match probability in each pass, averaged over captions where the
            classes needed several; empty where no class was looked for.
        scores: float32 [C]: ITM match probability of each class in a caption of its own.
        classes: the names, as they were used.
        present: whether each class was looked for; all true unless `present="match"` was asked for.
    """

    labels: np.ndarray
    class_maps: np.ndarray
    match: np.ndarray
    scores: np.ndarray
    classes: tuple[str, ...]
    present: tuple[bool, ...]

    def mask(self, name: str) -> np.ndarray:
        """Where a class was found, bool [H, W].

        Raises:
            InputError: the class was not named.
        """
        if name not in self.classes:
            raise InputError(
                f"no class {name!r} in this result", f"it has: {', '.join(self.classes)}"
            )
        return self.labels == self.classes.index(name) + 1

    def areas(self) -> np.ndarray:
        """Pixels of the background and of each class, int64 [1 + C]."""
        return np.bincount(self.labels.ravel(), minlength=len(self.classes) + 1)

    def label_image(self) -> Image.Image:
        """The labels as a palette image (mode P); as 16-bit grays for more than 255 classes."""
        if len(self.classes) > 255:
            return Image.fromarray(self.labels)
        image = Image.fromarray(self.labels.astype(np.uint8), mode="P")
        image.putpalette(class_colors(len(self.classes)).ravel().tolist())
        return image

    def overlay(self, image: ImageLike, *, legend: bool = True) -> Image.Image:
        """The picture with its classes colored and outlined, RGB, scaled to a readable size.

        Args:
            image: the picture that was segmented.
            legend: add the class names below.

        Raises:
            InputError: the picture's size is not that of the labels.
        """
        rgb = load_rgb(image)
        if rgb.size != self.labels.shape[::-1]:
            height, width = self.labels.shape
            raise InputError(
                f"the picture is {rgb.width}x{rgb.height}, its labels are {width}x{height}",
                "give the picture that was segmented",
            )
        palette = class_colors(len(self.classes))
        drawn = overlay.draw(rgb, self.labels, palette)
        if not legend:
            return drawn
        shares = self.areas()[1:] / self.labels.size
        return overlay.add_legend(drawn, self.classes, palette, shares, self.present)

    def to_coco(self) -> list[dict[str, Any]]:
        """COCO annotations of the classes found: category_id (1 + index), RLE, area, bbox, score.

        Raises:
            BackendError: pycocotools is not installed.
        """
        coco = _import("pycocotools.mask")
        annotations = []
        for index in self._found():
            rle = coco.encode(np.asfortranarray(self.labels == index + 1, np.uint8))
            annotations.append(
                {
                    "category_id": index + 1,
                    "category_name": self.classes[index],
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                    "area": int(coco.area(rle)),
                    "bbox": coco.toBbox(rle).tolist(),
                    "score": float(self.scores[index]),
                    "iscrowd": 0,
                }
            )
        return annotations

    def to_supervision(self) -> Any:
        """`supervision.Detections` of the classes found: one mask a class, class_id from 0.

        Raises:
            BackendError: supervision is not installed.
        """
        supervision = _import("supervision")
        found = self._found()
        height, width = self.labels.shape
        masks = np.zeros((len(found), height, width), bool)
        for mask, index in zip(masks, found, strict=True):
            mask[:] = self.labels == index + 1
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks).astype(np.float32).reshape(-1, 4),
            mask=masks,
            class_id=np.array(found, int),
            confidence=self.scores[found],
            data={"class_name": np.array([self.classes[i] for i in found], dtype=str)},
        )

    def _found(self) -> list[int]:
        return np.flatnonzero(self.areas()[1:]).tolist()


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise BackendError(
            f"this needs the package {package}: {error}", "pip install 'pnp-ovss[interop]'"
        ) from error
