"""Dense CRF (Kraehenbuehl and Koltun, 2011) over the refined channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ...kernels.cpu.densecrf import load
from ...kernels.interface import BILATERAL, GAUSSIAN, ITERATIONS
from ..device import CPU, Array, Device
from ..errors import BackendError
from ..memory import memory, require_memory, too_large
from ..settings import Crf
from . import pydensecrf_worker

KERNELS = {"gaussian": GAUSSIAN, "bilateral": BILATERAL}

# Of pydensecrf: its peak on noise, the worst case, from 0.2 to 3 megapixels and 3 to 21 labels.
_BYTES_PER_PIXEL = 700
_BYTES_PER_PIXEL_AND_LABEL = 32

_CURE = "scale the image down, name fewer classes, or go without the CRF: --crf none"


def require(kind: Crf) -> None:
    """Find out whether a CRF can be used.

    Raises:
        BackendError: it cannot.
    """
    if kind == "pydensecrf":
        pydensecrf_worker.require()
        return
    try:
        load()
    except (ImportError, OSError) as error:
        raise BackendError(
            f"the dense CRF cannot be loaded: {error}",
            "pip install --force-reinstall --no-deps pnp-ovss, or go without: --crf none, crf=None",
        ) from error


def where(kind: Crf | None, device: Device) -> Device:
    """Where a CRF runs, and leaves its marginals, when the model runs on a device."""
    return device if kind in (None, "densecrf") else CPU


def marginals(
    image: Image.Image,
    channels: Array,
    kind: Crf = "densecrf",
    threads: int = 1,
    place: Device = CPU,
) -> Array:
    """Mean-field marginals, float32 [C, H, W].

    Args:
        image: RGB, W x H.
        channels: float32 [C, H, W] in [0, 1]; their softmax is the unary probability.
        kind: "densecrf" and "densecrf-cpu" are this package's own; "pydensecrf" is the package of
            that name, which uses one thread of a process of its own.
        threads: of the package's own on the CPU.
        place: where the channels are, and the marginals come to be: as `where` says.

    Raises:
        BackendError: the CRF is not installed, or its process ended.
        InputError: it would need more memory than there is.
    """
    require(kind)
    labels, height, width = channels.shape
    if place.on_gpu:
        return _densecrf(image, channels, place)
    purpose = f"the dense CRF on {width}x{height} pixels and {labels} labels"
    if kind == "pydensecrf":
        bytes_per_pixel = _BYTES_PER_PIXEL + labels * _BYTES_PER_PIXEL_AND_LABEL
        require_memory(height * width * bytes_per_pixel, purpose, _CURE)
        likely = place.kernels.softmax(channels)
        return pydensecrf_worker.PROCESSES.infer(np.array(image), likely, ITERATIONS, KERNELS)
    require_memory(height * width * labels * 8, purpose, _CURE)
    limit = memory() or 0
    try:
        return _densecrf(image, channels, place, threads, limit)
    except MemoryError as error:
        raise too_large(f"more than {limit / 2**30:.0f} GiB", limit, purpose, _CURE) from error


def _densecrf(
    image: Image.Image, channels: Array, place: Device, threads: int = 1, limit: int = 0
) -> Array:
    """The package's own, at a place; `limit` is the memory that it may take on the CPU."""
    terms: dict[str, Any] = {
        f"{kernel}_{name}": value for kernel, own in KERNELS.items() for name, value in own.items()
    }
    return place.kernels.densecrf(
        place.xp.asarray(np.asarray(image)),
        place.kernels.softmax(channels),
        iterations=ITERATIONS,
        threads=threads,
        memory=limit,
        **terms,
    )
