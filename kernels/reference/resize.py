"""Defines the resize of images: Pillow's bicubic, as every Pillow up to 12.2 computes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BITS = 22  # of a weight after the point
_STRIP = 100  # times as tall as wide


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize an image by the cubic of Keys with a = -0.5, which widens where the image shrinks.

    Lines are resized first, then columns. Between the two and after them, values are rounded to 8
    bits. Weights are rounded to 22 bits after the point, so the result is exact in integers. Strips
    that are more than 100 times as tall as wide, and become shorter, are resized columns first.

    Args:
        image: image, uint8 [H, W, 3].
        height: height of the result in pixels.
        width: width of the result in pixels.

    Returns:
        The resized image, uint8 [height, width, 3]. It is that of Pillow 12.2, bit for bit.
    """
    tall, wide, _ = image.shape
    columns_first = height < tall and tall > _STRIP * wide
    for axis in (0, 1) if columns_first else (1, 0):
        image = _resize_axis(image, (height, width)[axis], axis)
    return image


def _resize_axis(image: NDArray[np.uint8], target: int, axis: int) -> NDArray[np.uint8]:
    if image.shape[axis] == target:
        return image
    weights = _weights(image.shape[axis], target)
    sums = np.moveaxis(np.tensordot(weights, image.astype(np.float64), (1, axis)), 0, axis)
    rounded = (sums.astype(np.int64) + (1 << (_BITS - 1))) >> _BITS  # the sums are whole, and exact
    return rounded.clip(0, 255).astype(np.uint8)


def _weights(source: int, target: int) -> NDArray[np.float64]:
    """Return the weights, whole numbers, of source pixels: float64 [target, source].

    The order of operations is Pillow's: each rounding counts.
    """
    matrix = np.zeros((target, source))
    scale = source / target
    widened = max(scale, 1.0)
    for row, pixel in zip(matrix, range(target), strict=True):
        center = (pixel + 0.5) * scale
        first = int(max(center - 2 * widened + 0.5, 0))
        end = int(min(center + 2 * widened + 0.5, source))
        exact = [_cubic((k - center + 0.5) * (1 / widened)) for k in range(first, end)]
        total = 0.0
        for weight in exact:
            total += weight
        for k, weight in enumerate(exact, first):
            share = weight / total
            row[k] = int(share * (1 << _BITS) + (-0.5 if share < 0 else 0.5))
    return matrix


def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1
    if x < 2:
        return (((x - 5) * x + 8) * x - 4) * -0.5
    return 0.0
