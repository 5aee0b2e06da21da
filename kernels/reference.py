"""The numeric kernels in NumPy: the definition that every other implementation is held to.

P patches stand in a p x p grid, row by row. Salience is [T, P] for a caption of T tokens. Nothing
here knows of models, files or settings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def blank_patches(pixels: FloatArray, dropped: NDArray[np.bool_], patch: int) -> FloatArray:
    """Zero the normalised pixels of dropped patches, so that they show the mean colour.

    Args:
        pixels: [B, 3, S, S].
        dropped: [B, P].
        patch: side of a patch in pixels.

    Returns:
        A copy of `pixels` with the patches blanked.
    """
    batch, channels, size, _ = pixels.shape
    grid = size // patch
    tiles = pixels.copy().reshape(batch, channels, grid, patch, grid, patch)
    keep = ~dropped.reshape(batch, 1, grid, 1, grid, 1)
    tiles *= keep
    return tiles.reshape(pixels.shape)


def drop_salient(scores: FloatArray, dropped: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """Drop the `count` highest-scoring patches that are still there; of equals, the lower index.

    Args:
        scores: [P].
        dropped: [P], the patches dropped so far.
        count: how many to drop; all that are left, where fewer are.

    Returns:
        [P], the patches dropped now.
    """
    order = np.argsort(-scores, kind="stable")
    left = order[~dropped[order]]
    result = dropped.copy()
    result[left[:count]] = True
    return result


def min_max(values: FloatArray) -> FloatArray:
    """Scale to [0, 1]; where all values are equal, all zero."""
    low, high = values.min(), values.max()
    if not high > low:
        return np.zeros_like(values)
    return (values - low) / (high - low)


def threshold(class_map: FloatArray, level: float) -> FloatArray:
    """Zero a class map where its min-max scaled value is below `level`; the rest stays scaled."""
    scaled = min_max(class_map)
    scaled[scaled < level] = 0
    return scaled


def upsampling_matrix(source: int, target: int) -> NDArray[np.float32]:
    """[target, source]: bilinear interpolation of a line with aligned corners.

    Positions are exact fractions, so that a target pixel that lies on a source pixel takes exactly
    its value.
    """
    matrix = np.zeros((target, source), np.float32)
    positions = np.arange(target) * (source - 1)
    steps = max(target - 1, 1)
    lower, rest = positions // steps, positions % steps
    rows = np.arange(target)
    matrix[rows, lower] = 1 - rest / steps
    matrix[rows, np.minimum(lower + 1, source - 1)] += rest / steps
    return matrix


def gaussian_blur(values: FloatArray, sigma: float, axis: int) -> FloatArray:
    """Gaussian along one axis, truncated at 4 sigma, reflected at the edges.

    What `scipy.ndimage.gaussian_filter1d` does by default. Reflection makes the line periodic over
    twice its length, so the sum is a circular convolution and costs O(n log n) at any sigma.
    """
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return values.copy()
    length = values.shape[axis]
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = np.zeros(2 * length)
    np.add.at(kernel, offsets % (2 * length), weights / weights.sum())
    spectrum = np.fft.rfft(kernel).real.astype(values.dtype)
    line = np.moveaxis(values, axis, -1)
    period = np.concatenate([line, line[..., ::-1]], axis=-1)
    blurred = np.fft.irfft(np.fft.rfft(period) * spectrum, n=2 * length)[..., :length]
    return np.moveaxis(blurred.astype(values.dtype, copy=False), -1, axis)


def softmax(channels: FloatArray) -> FloatArray:
    """Over the first axis."""
    exponent = np.exp(channels - channels.max(axis=0))
    return exponent / exponent.sum(axis=0)
