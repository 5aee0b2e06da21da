"""Refines class maps as this engine did at first, in NumPy: the background is blurred at full size.

It is the baseline of `measures.refinement`. The background is 1 where no class has salience. That
is not linear in the maps, so it was blurred pixel by pixel, by the FFT. Channels of classes were
small matrix products already.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pnp_ovss.engine.settings import Settings
from pnp_ovss.kernels import reference


def labels(maps: np.ndarray, height: int, width: int, settings: Settings) -> np.ndarray:
    """Label each pixel, background included.

    Args:
        maps: Class maps, float32 [C, gh, gw].
        height: Height of the image in pixels, H.
        width: Width of the image in pixels, W.
        settings: Threshold and blur.

    Returns:
        Labels, uint16 [H, W]: 0 for the background, i + 1 for map i.
    """
    sigma = settings.blur * max(height, width)
    kept = reference.threshold(maps, settings.threshold)
    channels = np.empty((1 + len(maps), height, width), np.float32)
    channels[0] = _blurred(_background(kept, height, width), sigma)
    rows = _upsampling(maps.shape[1], height, sigma)
    columns = _upsampling(maps.shape[2], width, sigma)
    for one, channel in zip(kept, channels[1:], strict=True):
        np.matmul(rows @ one, columns.T, out=channel)
    for channel in channels:
        flat = np.ptp(channel) <= np.float32(reference.ROUNDING) * np.abs(channel).max()
        channel[:] = 0 if flat else reference.min_max(channel)
    return reference.choose_labels(channels, np.arange(len(channels), dtype=np.uint16))


def _background(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns = (
        (reference.upsampling_matrix(cells, size) > 0).astype(np.float32)
        for cells, size in zip(maps.shape[1:], (height, width), strict=True)
    )
    return (rows @ maps.any(axis=0) @ columns.T == 0).astype(np.float32)


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return reference.gaussian_blur(reference.gaussian_blur(image, sigma, 0), sigma, 1)


@lru_cache(maxsize=32)
def _upsampling(grid: int, size: int, sigma: float) -> np.ndarray:
    matrix = reference.upsampling_matrix(grid, size).astype(np.float32)
    return reference.gaussian_blur(matrix, sigma, 0)
