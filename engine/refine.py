"""Class maps to full-size channels: threshold, upsampling, background, blur."""

from __future__ import annotations

import numpy as np

from ..kernels import reference
from .memory import require_memory
from .settings import Settings

FEW_CLASSES = 3  # in Context-style sets, fewer named classes than this leave room for a background

# peak bytes a pixel beside the channels themselves, measured
_BLUR_BYTES = 120
_MAP_BYTES = 16

_ROUNDING = 1e-5  # of a blurred constant, relative; the faintest contrast left by blur=1 is 7e-3


def has_background(classes: int, settings: Settings) -> bool:
    """Whether a background channel is added when `classes` classes are named."""
    if settings.background == "auto":
        return classes < FEW_CLASSES
    return settings.background == "always"


def channels(class_maps: np.ndarray, height: int, width: int, settings: Settings) -> np.ndarray:
    """Blurred channels at the picture's own size, each scaled to [0, 1].

    Upsampling and blur are both linear and separable, so for a class map M they are the two small
    products R_h M R_w^T. The background, 1 where no class has any salience, is not linear in the
    maps and is blurred at full size.

    Args:
        class_maps: float32 [C, p, p].
        height: of the picture.
        width: of the picture.
        settings: threshold, blur, background.

    Returns:
        float32 [C, height, width], or [1 + C, ...] with the background first.

    Raises:
        InputError: the channels would not fit in memory.
    """
    classes, grid, _ = class_maps.shape
    background = has_background(classes, settings)
    require_memory(
        height * width * (4 * (classes + background) + (_BLUR_BYTES if background else _MAP_BYTES)),
        f"{classes} classes on {width}x{height} pixels",
        "name fewer classes, or scale the picture down",
    )
    sigma = settings.blur * max(height, width)
    rows = reference.upsampling_matrix(grid, height)
    columns = reference.upsampling_matrix(grid, width)
    kept = np.stack([reference.threshold(m, settings.threshold) for m in class_maps])

    out = np.empty((classes + background, height, width), np.float32)
    if background:
        empty = (rows @ kept.max(axis=0) @ columns.T == 0).astype(np.float32)
        blurred = reference.gaussian_blur(reference.gaussian_blur(empty, sigma, 0), sigma, 1)
        out[0] = _min_max(blurred)
    rows = reference.gaussian_blur(rows, sigma, 0)
    columns = reference.gaussian_blur(columns, sigma, 0)
    for channel, class_map in zip(out[background:], kept, strict=True):
        channel[:] = _min_max(rows @ class_map @ columns.T)
    return out


def _min_max(channel: np.ndarray) -> np.ndarray:
    """Scale to [0, 1]; a channel that is constant but for the rounding of the blur becomes zero."""
    if np.ptp(channel) <= _ROUNDING * np.abs(channel).max():
        return np.zeros_like(channel)
    return reference.min_max(channel)
