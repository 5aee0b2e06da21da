"""Run a dense CRF (Kraehenbuehl and Koltun, 2011) on probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...kernels.cpu.densecrf import load_densecrf
from ...kernels.interface import BILATERAL, GAUSSIAN, ITERATIONS
from ..device import CPU, Array, Device
from ..errors import BackendError
from ..limits import memory_left
from ..memory import amount, require_memory, too_large
from ..settings import Crf
from . import pydensecrf_worker

KERNELS = {"gaussian": GAUSSIAN, "bilateral": BILATERAL}

# Of pydensecrf: its peak on noise, the worst case, from 0.2 to 3 megapixels and 3 to 21 labels.
_BYTES_PER_PIXEL = 700
_BYTES_PER_PIXEL_AND_LABEL = 32

_CURE = (
    "refine at a smaller size (--refine-side 512), name fewer classes, or go without the CRF:"
    " --crf none"
)


def require(kind: Crf) -> None:
    """Check that a CRF can be used.

    Raises:
        BackendError: the package of the CRF is missing or cannot be loaded.
    """
    if kind == "pydensecrf":
        pydensecrf_worker.require()
        return
    try:
        load_densecrf()
    except (ImportError, OSError) as error:
        raise BackendError(
            f"the dense CRF cannot be loaded: {error}",
            "pip install --force-reinstall --no-deps pnp-ovss, or go without: --crf none, crf=None",
        ) from error


def where(kind: Crf | None, device: Device) -> Device:
    """Return the device that a CRF runs on when the model runs on `device`."""
    return device if kind in (None, "densecrf") else CPU


def marginals(
    image: npt.NDArray[np.uint8],
    probabilities: Array,
    kind: Crf = "densecrf",
    threads: int = 1,
    place: Device = CPU,
) -> Array:
    """Compute mean-field marginals, float32 [C, H, W].

    Args:
        image: the image in RGB, uint8 [H, W, 3], in the host's memory.
        probabilities: unary probabilities, float32 [C, H, W].
        kind: which CRF. "densecrf" and "densecrf-cpu" are this package's; "pydensecrf" is the
            package of that name, on one thread of another process.
        threads: number of threads that this package's CRF may use on the CPU.
        place: device of the probabilities and of the marginals, as `where` returns it.

    Raises:
        BackendError: the CRF is not installed, or its process ended.
        InputError: the CRF needs more memory than the machine has.
    """
    require(kind)
    labels, height, width = probabilities.shape
    if place.on_gpu:
        return _densecrf(image, probabilities, place)
    purpose = f"the dense CRF on {width}x{height} pixels and {labels} labels"
    if kind == "pydensecrf":
        bytes_per_pixel = _BYTES_PER_PIXEL + labels * _BYTES_PER_PIXEL_AND_LABEL
        require_memory(height * width * bytes_per_pixel, purpose, _CURE)
        return pydensecrf_worker.PROCESSES.infer(
            np.array(image), probabilities, ITERATIONS, KERNELS
        )
    require_memory(height * width * labels * 8, purpose, _CURE)
    limit = memory_left() or 0
    try:
        return _densecrf(image, probabilities, place, threads, limit)
    except MemoryError as error:
        raise too_large(f"more than {amount(limit)}", limit, purpose, _CURE) from error


def _densecrf(
    image: npt.NDArray[np.uint8],
    probabilities: Array,
    place: Device,
    threads: int = 1,
    limit: int = 0,
) -> Array:
    """Run this package's CRF on a device; on the CPU it may take `limit` bytes of memory."""
    terms: dict[str, Any] = {
        f"{kernel}_{name}": value
        for kernel, parameters in KERNELS.items()
        for name, value in parameters.items()
    }
    return place.kernels.densecrf(
        place.xp.asarray(image),
        probabilities,
        iterations=ITERATIONS,
        threads=threads,
        memory=limit,
        **terms,
    )
