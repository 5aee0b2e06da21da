"""Calls the resize of images in C++, `cpu/resize.cpp`, through ctypes."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from .library import check, load

_MOST = 2**31 - 1  # pixels of a side


def resize(image: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize an image by Pillow's bicubic; `reference.resize` defines the result.

    The GIL is released.

    Args:
        image: image, uint8 [H, W, 3]. Rows may lie apart; a row is contiguous.
        height: height of the result in pixels.
        width: width of the result in pixels.

    Returns:
        The resized image, uint8 [height, width, 3].

    Raises:
        ValueError: a shape, a dtype or a size cannot be used.
        MemoryError: memory ran out.
        ImportError: the C++ extension was not built.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}, not uint8 [H, W, 3]")
    if image.strides[1:] != (3, 1) or image.strides[0] < image.shape[1] * 3:
        image = np.ascontiguousarray(image)
    if max(height, width) > _MOST or min(height, width) < 1:
        raise ValueError(f"the target {width}x{height} is out of range")
    out = np.empty((height, width, 3), np.uint8)
    function = load("_pixels").pnp_resize
    code = function(
        ctypes.c_void_p(image.ctypes.data),
        ctypes.c_int64(image.strides[0]),
        *map(ctypes.c_int32, (image.shape[1], image.shape[0])),
        ctypes.c_void_p(out.ctypes.data),
        *map(ctypes.c_int32, (width, height)),
    )
    check(code, f"the resize of {image.shape[1]}x{image.shape[0]} pixels to {width}x{height}")
    return out
