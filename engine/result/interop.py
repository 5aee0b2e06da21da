"""Convert labels to COCO annotations and to supervision's detections."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
import importlib
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BackendError, InputError, shown


def coco_annotations(
    labels: npt.NDArray[np.uint16],
    classes: Sequence[str],
    scores: npt.NDArray[np.float32],
    *,
    image_id: int | str | None = None,
    first_id: int = 1,
) -> list[dict[str, Any]]:
    """Make a COCO annotation for each class that has a pixel.

    An annotation has `id`, `image_id` where that is given, `category_id` (1 + index of the class),
    `category_name`, `segmentation` (RLE), `area`, `bbox`, `score` and `iscrowd`.

    Args:
        labels: label of each pixel, uint16 [H, W]: 0 background, i + 1 = classes[i].
        classes: C class names.
        scores: match probability of each class, float32 [C].
        image_id: id of the image in its data set, from 0 if it is a number.
        first_id: id of the first annotation, from 0; the others count on.

    Raises:
        InputError: an id is none.
        BackendError: pycocotools is not installed.
    """
    first_id = _number("first_id", first_id)
    if image_id is not None and not isinstance(image_id, str):
        image_id = _number("image_id", image_id)
    of_image = {} if image_id is None else {"image_id": image_id}
    coco = _import("pycocotools.mask")
    annotations: list[dict[str, Any]] = []
    for index in _visible(labels):
        rle = coco.encode(np.asfortranarray(labels == index + 1, np.uint8))
        annotations.append(
            {
                "id": first_id + len(annotations),
                **of_image,
                "category_id": index + 1,
                "category_name": classes[index],
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                "area": int(coco.area(rle)),
                "bbox": coco.toBbox(rle).tolist(),
                "score": float(scores[index]),
                "iscrowd": 0,
            }
        )
    return annotations


def supervision_detections(
    labels: npt.NDArray[np.uint16], classes: Sequence[str], scores: npt.NDArray[np.float32]
) -> Any:
    """Make `supervision.Detections`: a mask for each class that has a pixel, class_id from 0.

    Args:
        labels: label of each pixel, uint16 [H, W]: 0 background, i + 1 = classes[i].
        classes: C class names.
        scores: match probability of each class, float32 [C].

    Raises:
        BackendError: supervision is not installed.
    """
    supervision = _import("supervision")
    visible = _visible(labels)
    masks = np.zeros((len(visible), *labels.shape), bool)
    for mask, index in zip(masks, visible, strict=True):
        mask[:] = labels == index + 1
    return supervision.Detections(
        xyxy=supervision.mask_to_xyxy(masks).astype(np.float32).reshape(-1, 4),
        mask=masks,
        class_id=np.array(visible, int),
        confidence=scores[visible],
        data={"class_name": np.array([classes[i] for i in visible], dtype=str)},
    )


def _number(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
        raise InputError(f"{name} is {shown(value)}", "give a whole number from 0")
    return int(value)


def _visible(labels: npt.NDArray[np.uint16]) -> list[int]:
    """List the indices of the classes that have a pixel."""
    return [label - 1 for label in np.unique(labels).tolist() if label]


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise BackendError(
            f"this needs the package {package}: {error}", "pip install 'pnp-ovss[interop]'"
        ) from error
