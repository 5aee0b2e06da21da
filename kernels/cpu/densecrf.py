"""Calls the dense CRF in C++, `cpu/densecrf.cpp`, through ctypes."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from ..interface import BILATERAL, GAUSSIAN, ITERATIONS
from .library import load


class _Parameters(ctypes.Structure):
    """Parameters of the CRF, laid out as `pnp_densecrf_params` in `densecrf.h`."""

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
    """Time and memory of one call, laid out as `pnp_densecrf_stats` in `densecrf.h`.

    Attributes:
        read: seconds for taking the logarithms of the probabilities.
        build: seconds for building the lattices.
        first: seconds for the first sweep (softmax, splat), which has no message to slice.
        sweep: seconds for all other sweeps (slice, softmax, splat).
        blur: seconds for blurring the values of the lattices' vertices.
        last: seconds for the last sweep (slice, softmax), which gives the marginals.
        write: seconds for writing the marginals.
        vertices: number of vertices of both lattices.
        peak_bytes: most bytes that were allocated at once.
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
    """Compute the marginals of a fully connected CRF by mean-field inference.

    The CRF has Potts compatibility and symmetric normalization (Kraehenbuehl and Koltun, 2011). Its
    messages are filtered on the permutohedral lattice (Adams, Baek and Davis, 2010). The GIL is
    released, so calls from several threads run at once.

    Memory: 72 bytes for each pixel and 60 for each vertex of the lattices. Each label adds 4 bytes
    for each pixel and 8 for each vertex. Each thread after the first adds 4 bytes for each vertex
    and label. Labels are rounded up to 4, or to a multiple of 8.

    A photograph has about one vertex in three pixels: with 3 labels 134 bytes for each pixel. Noise
    has up to six vertices in a pixel: 700 bytes. Up to 256 MiB stay allocated for the next call.

    Args:
        image: image, uint8 [H, W, 3].
        probabilities: unary probabilities of each label, float32 [C, H, W], at least 0 and finite;
            they need not sum to 1.
        iterations: number of mean-field iterations; 0 only normalizes the probabilities.
        gaussian_sxy: standard deviation of the smoothness kernel, in pixels.
        gaussian_compat: weight of the smoothness kernel; 0 leaves the kernel out.
        bilateral_sxy: spatial standard deviation of the appearance kernel, in pixels.
        bilateral_srgb: color standard deviation of the appearance kernel, in levels of 0 to 255.
        bilateral_compat: weight of the appearance kernel; 0 leaves the kernel out.
        threads: number of threads for this image. It changes the order of sums, and so the last
            digits of the result.
        memory: limit of the memory in bytes, without the result; 0 sets no limit.
        profile: record of time and memory, filled in by the call.

    Returns:
        The marginals, float32 [C, H, W].

    Raises:
        ValueError: a shape, a dtype, a parameter or a probability cannot be used.
        MemoryError: memory ran out, or the limit was reached.
        ImportError: the C++ extension was not built.
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
    code = load_densecrf().pnp_densecrf(
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
                min(threads, _MAX_THREADS),
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


_MAX_THREADS = 256


def load_densecrf() -> ctypes.CDLL:
    """Load the C++ extension, once in a process.

    Returns:
        The shared library, with the argument types of `pnp_densecrf` declared.

    Raises:
        ImportError: the extension was not built.
        OSError: the extension cannot be loaded.
    """
    library = load("_densecrf")
    pointer, size = ctypes.c_void_p, ctypes.c_int32
    library.pnp_densecrf.argtypes = (*[pointer] * 3, *[size] * 3, *[pointer] * 2)
    library.pnp_densecrf.restype = ctypes.c_int32
    return library
