"""Make full-size channels of class maps: threshold, upsampling, background, blur."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ...kernels import reference
from ..device import CPU, Array, Device
from ..memory import require_memory
from ..settings import Settings

FEW_CLASSES = 3  # in Context-style sets, fewer named classes than this leave room for a background

# Measured peak of memory in bytes, without the channels: for each pixel; and for each side, times
# its pixels and cells of the grid.
_PIXEL_BYTES = 16
_SIDE_BYTES = 160

_ROUNDING = 1e-5  # a channel is constant where it spans no more of its largest magnitude
_FFT_ROUNDING = 1e-14  # seen: 2e-16 where there is nothing, 3e-13 where there is least


def has_background(classes: int, settings: Settings) -> bool:
    """Tell whether a background channel is added when so many classes are looked for."""
    if settings.background == "auto":
        return classes < FEW_CLASSES
    return settings.background == "always"


def to_channels(
    class_maps: Array,
    height: int,
    width: int,
    settings: Settings,
    device: Device = CPU,
    *,
    classes: int | None = None,
) -> Array:
    """Make blurred channels of the image's size, each scaled to [0, 1].

    Upsampling and blur are both linear and separable. So for a class map M they are two small
    products, R_h M R_w^T. The background is 1 where no class has salience. It is constant within
    each cell of the grid and each gap between cells, so its blur is two small products too.

    Args:
        class_maps: class maps, float32 [M, gh, gw], on the device, C-contiguous.
        height: height of the image in pixels.
        width: width of the image in pixels.
        settings: threshold, blur and background.
        device: device that computes.
        classes: number of classes that the maps are of; by default M.

    Returns:
        Channels on the device, float32 [M, height, width]; with a background [1 + M, height,
        width], the background first.

    Raises:
        InputError: the channels do not fit into the host's memory.
    """
    count, grid_height, grid_width = class_maps.shape
    axes = (grid_height, height), (grid_width, width)
    background = has_background(count if classes is None else classes, settings)
    if not device.on_gpu:
        _require_memory(count, count + background, axes)
    kernels, xp = device.kernels, device.xp
    sigma = settings.blur * max(height, width)
    kept = kernels.threshold(class_maps, settings.threshold)
    out = xp.empty((count + background, height, width), np.float32)
    levels = xp.empty(len(out), np.float64)
    if background:
        rows, columns = (_blurred_cells(grid, size, sigma) for grid, size in axes)
        kernels.resample(rows, kernels.background(kept)[None], columns, out[:1], levels[:1])
    rows, columns = (_blurred_upsampling(grid, size, sigma) for grid, size in axes)
    kernels.resample(rows, kept, columns, out[background:], levels[background:])
    kernels.scale_channels(out, levels, _ROUNDING)
    return out


@lru_cache(maxsize=16)
def _blurred_upsampling(grid: int, size: int, sigma: float) -> npt.NDArray[np.float64]:
    """Make the matrix that upsamples and blurs a line of the grid: R, float64 [size, grid]."""
    return _blurred(reference.upsampling_matrix(grid, size), sigma)


@lru_cache(maxsize=16)
def _blurred_cells(grid: int, size: int, sigma: float) -> npt.NDArray[np.float64]:
    """Make the matrix that blurs a line, constant in cells and gaps: [size, 2 * grid - 1]."""
    return _blurred(reference.cells_matrix(grid, size), sigma)


def _blurred(matrix: npt.NDArray[np.float64], sigma: float) -> npt.NDArray[np.float64]:
    """Blur along the rows; what is 0 stays exactly 0, so that empty channels stay equal."""
    blurred = reference.gaussian_blur(matrix, sigma, 0)
    blurred[np.abs(blurred) < _FFT_ROUNDING] = 0
    return blurred


def _require_memory(classes: int, channels: int, axes: tuple[tuple[int, int], ...]) -> None:
    (_, height), (_, width) = axes
    sides = sum(grid * size for grid, size in axes)
    require_memory(
        height * width * (4 * channels + _PIXEL_BYTES) + sides * _SIDE_BYTES,
        f"{classes} classes on {width}x{height} pixels",
        "name fewer classes, or scale the image down",
    )
