"""Refine class maps into labels: one pure function, which needs no model.

The kernels make channels of class maps, by the matrices of `channels`, and `crf` sharpens them. The
label of a pixel is its largest channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...kernels.cpu.resize import resize
from ..device import CPU, Array, Device
from ..errors import InputError
from ..settings import Settings
from ..tracing import span
from . import crf
from .channels import lines, require_memory_for

__all__ = ["refine"]

_MOST = np.iinfo(np.uint16).max  # classes that a label map holds


def refine(
    image: Image.Image,
    maps: Array,
    settings: Settings,
    *,
    class_of: npt.NDArray[np.integer[Any]] | None = None,
    present: Sequence[bool] | npt.NDArray[np.bool_] | None = None,
    device: Device = CPU,
    event: object = None,
    threads: int = 1,
) -> npt.NDArray[np.uint16]:
    """Make the labels of an image from its class maps.

    A pixel gets the class of the largest channel, or the background if that is largest. Of equal
    channels the first wins, and the background before all. Source: PnP-OVSS (CVPR 2024);
    `engine/METHOD.md`, steps 6 to 11.

    Args:
        image: the image in RGB, W x H.
        maps: class maps, float32 [M, gh, gw], on the device or in the host's memory.
        settings: threshold, blur, background, CRF, and the side at which to refine; other settings
            have no effect.
        class_of: index of the class of each map, int [M]; by default map i is of class i.
        present: whether a class is in the image, bool [C]; maps of other classes are left out. By
            default all classes are.
        device: device that computes. A CRF that runs on the CPU in any case does so.
        event: event of the device's stream, after which maps on the device can be read.
        threads: number of threads that the CRF may use on the CPU.

    Returns:
        Labels, uint16 [H, W]: 0 for the background, i + 1 for the class of index i.

    Raises:
        InputError: the maps cannot be used, or need more memory than the machine has.
        BackendError: the CRF is not installed, or its process ended.
        ExecutionError: the device ran out of memory.
    """
    present = None if present is None else np.asarray(present, bool)
    classes = _classes(maps, class_of, present)
    if settings.crf is not None:
        crf.require(settings.crf)
    kept = np.arange(len(maps)) if present is None else np.flatnonzero(present[classes])
    full = (image.height, image.width)
    if not len(kept):
        return np.zeros(full, np.uint16)
    grid, size = tuple(maps.shape[1:]), _refined_size(full, settings.refine_side)
    matrices = lines(grid, size, settings, classes=len(np.unique(classes[kept])))
    numbers = (classes[kept] + 1).astype(np.uint16)
    if matrices.has_background:
        numbers = np.concatenate([np.zeros(1, np.uint16), numbers])
    at_once = settings.crf is None and size == full  # no channel has to be held
    if not device.on_gpu:
        require_memory_for(grid, size, full, len(kept), 0 if at_once else len(numbers))
    place = crf.where(settings.crf, device)
    with device.side_stream(event):
        with span("refine"):
            chosen = device.xp.asarray(maps)
            chosen = chosen if len(kept) == len(maps) else chosen[kept]
            chosen = device.xp.ascontiguousarray(chosen)  # kernels take its address
            if at_once:
                labels = device.kernels.labels(chosen, matrices, settings.threshold, numbers)
                return device.to_host(labels)
            likely = device.kernels.probabilities(chosen, matrices, settings.threshold)
            if place is not device:
                likely = device.to_host(likely)
        if place is device:
            return _labels(image, likely, numbers, settings, device, threads)
    return _labels(image, likely, numbers, settings, place, threads)


def _refined_size(full: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """Return the height and width at which an image of a size is refined."""
    if longest is None or max(full) <= longest:
        return full
    height, width = (max(round(side * longest / max(full)), 1) for side in full)
    return height, width


def _classes(
    maps: Array,
    class_of: npt.NDArray[np.integer[Any]] | None,
    present: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.int64]:
    """Check class maps, and return the index of the class of each, int64 [M].

    Raises:
        InputError: the maps, their classes or `present` cannot be used.
    """
    if maps.ndim != 3 or maps.dtype != np.float32 or 0 in maps.shape[1:]:
        raise InputError(
            f"class maps are {maps.dtype} {list(maps.shape)}", "they must be float32 [C, gh, gw]"
        )
    if not _is_finite(maps):
        raise InputError("a class map holds NaN or infinity", "give finite class maps")
    classes = np.arange(len(maps)) if class_of is None else np.asarray(class_of, np.int64)
    if classes.shape != (len(maps),) or (classes < 0).any() or (classes >= _MOST).any():
        raise InputError(f"class_of is {classes.tolist()} for {len(maps)} maps", "give one each")
    if present is not None and len(classes) and classes.max() >= len(present):
        raise InputError(
            f"a map is of class {classes.max()}, and present tells of {len(present)}",
            "tell of each class whether it is present",
        )
    return classes


def _is_finite(maps: Array) -> bool:
    """Whether maps in the host's memory are finite; on a GPU nothing waits to find out."""
    if not isinstance(maps, np.ndarray):
        return True
    return bool(np.isfinite(cast("npt.NDArray[np.float32]", maps)).all())


def _labels(
    image: Image.Image,
    likely: Array,
    numbers: npt.NDArray[np.uint16],
    settings: Settings,
    device: Device,
    threads: int,
) -> npt.NDArray[np.uint16]:
    """Choose labels, uint16 [H, W], from probabilities on the device that the CRF runs on."""
    if settings.crf is not None:
        _, height, width = likely.shape
        pixels = np.asarray(image)
        with span("crf"):
            if pixels.shape[:2] != (height, width):
                pixels = resize(pixels, height, width)
            likely = crf.marginals(pixels, likely, settings.crf, threads, device)
    with span("labels"):
        full = (image.height, image.width)
        return device.to_host(device.kernels.enlarged_labels(likely, numbers, *full))
