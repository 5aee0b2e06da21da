"""The dense CRF on the CPU: the Python side of `cpu/densecrf.cpp`."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt

from ..interface import BILATERAL, GAUSSIAN, ITERATIONS


class _Parameters(ctypes.Structure):
    _fields_ = (
        ("memory", ctypes.c_int64),
        ("iterations", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("gaussian_sxy", ctypes.c_float),
        ("gaussian_compat", ctypes.c_float),
        ("bilateral_sxy", ctypes.c_float),
        ("bilateral_srgb", ctypes.c_float),
        ("bilateral_compat", ctypes.c_float),
    )


class Profile(ctypes.Structure):
    """Where the time of one call went, in seconds, how large its lattices were, its memory's peak.

    Slice, softmax and splat are one loop (`sweep`), but for the first iteration, which has nothing
    to slice (`first`), and after the last one, which splats no more (`last`).
    """

    _fields_ = (
        *((name, ctypes.c_double) for name in ("read", "build", "first", "sweep", "blur", "last")),
        ("write", ctypes.c_double),
        ("vertices", ctypes.c_int64),
        ("peak_bytes", ctypes.c_int64),
    )


_CAUSES = {
    1: "a parameter is out of range: iterations from 0, threads from 1, deviations above 0,"
    " compatibilities from 0, all of them finite",
    2: "a probability is NaN, infinite or negative",
    3: "a deviation is so small that float32 cannot tell neighbors in this image",
}
_NO_MEMORY = 4


def densecrf(
    image: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float32],
    *,
    iterations: int = ITERATIONS,
    gaussian_sxy: float = GAUSSIAN["sxy"],
    gaussian_compat: float = GAUSSIAN["compat"],
    bilateral_sxy: float = BILATERAL["sxy"],
    bilateral_srgb: float = BILATERAL["srgb"],
    bilateral_compat: float = BILATERAL["compat"],
    threads: int = 1,
    memory: int = 0,
    profile: Profile | None = None,
) -> npt.NDArray[np.float32]:
    """Mean-field marginals of a fully connected CRF (Kraehenbuehl and Koltun, 2011).

    Potts compatibility and symmetric normalization, on the permutohedral lattice. The GIL is
    released: calls from several threads run at once.

    Memory: 72 bytes a pixel and 4 a pixel and label, 60 bytes a vertex of the lattices and 8 a
    vertex and label, 4 more of these for each thread but the first, where labels are rounded up to
    4 or a multiple of 8. Photographs have about one vertex in three pixels (3 labels: 134 bytes a
    pixel in all), noise up to six a pixel (700). Up to 256 MiB of it stay allocated for the next
    call.

    Args:
        image: uint8 [H, W, 3].
        probabilities: float32 [C, H, W], of each label, at least 0; they need not sum to 1.
        iterations: of the mean field; 0 gives the probabilities themselves, summing to 1.
        gaussian_sxy: standard deviation of the smoothness kernel, in pixels.
        gaussian_compat: its weight; 0 leaves the kernel out.
        bilateral_sxy: standard deviation of the appearance kernel, in pixels.
        bilateral_srgb: its standard deviation in color, in levels of 0 to 255.
        bilateral_compat: its weight; 0 leaves the kernel out.
        threads: to use inside this one image. Their number changes the order of sums, and so
            the last digits of the result.
        memory: the most bytes that it may take, beside its result; 0 sets no limit.
        profile: is filled in.

    Returns:
        float32 [C, H, W].

    Raises:
        ValueError: a shape, a dtype, a parameter or a probability cannot be used.
        MemoryError: it needs more memory than there is, or than it may take.
        ImportError: the extension was not built.
    """
    image = np.ascontiguousarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}, not uint8 [H, W, 3]")
    probabilities = np.ascontiguousarray(probabilities, np.float32)
    if probabilities.ndim != 3 or probabilities.shape[1:] != image.shape[:2]:
        raise ValueError(
            f"probabilities are {list(probabilities.shape)},"
            f" not [C, {image.shape[0]}, {image.shape[1]}]"
        )
    if not probabilities.size:
        raise ValueError(f"probabilities are empty: {list(probabilities.shape)}")
    labels, height, width = probabilities.shape
    marginals = np.empty_like(probabilities)
    code = load().pnp_densecrf(
        image.ctypes.data,
        probabilities.ctypes.data,
        marginals.ctypes.data,
        width,
        height,
        labels,
        ctypes.byref(
            _Parameters(
                memory,
                min(iterations, 2**31 - 1),
                min(threads, _MOST_THREADS),
                gaussian_sxy,
                gaussian_compat,
                bilateral_sxy,
                bilateral_srgb,
                bilateral_compat,
            )
        ),
        None if profile is None else ctypes.byref(profile),
    )
    if code == _NO_MEMORY:
        raise MemoryError(f"the dense CRF on {width}x{height} pixels and {labels} labels")
    if code:
        raise ValueError(_CAUSES[code])
    return marginals


_MOST_THREADS = 256


@cache
def load() -> ctypes.CDLL:
    """The extension, which is loaded once.

    Raises:
        ImportError: it was not built.
        OSError: it cannot be loaded.
    """
    found = find_spec("pnp_ovss.kernels._densecrf")
    if found is None or found.origin is None:
        raise ImportError("pnp_ovss.kernels._densecrf was not built")
    library = ctypes.CDLL(found.origin)
    pointer, size = ctypes.c_void_p, ctypes.c_int32
    library.pnp_densecrf.argtypes = (*[pointer] * 3, *[size] * 3, *[pointer] * 2)
    library.pnp_densecrf.restype = ctypes.c_int32
    return library
