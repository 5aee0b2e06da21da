"""Steps 6 to 11 of the method, from class maps to labels, in float64 NumPy and SciPy.

Written from the description of the method (`engine/METHOD.md`) and from nothing else, to hold the
definitions of `kernels/reference.py`, the kernels and the baseline to it. One image at a time;
speed does not count.
"""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.special import log_softmax

CONSTANT = 1e-5  # a channel of a smaller span, relative to its largest magnitude, is constant


def threshold(maps, least):
    """Step 6: zero where the min-max-scaled map is below `least`, its own values elsewhere."""
    result = np.array(maps, np.float64)
    for one in result:
        span = one.max() - one.min()
        scaled = (one - one.min()) / span if span > 0 else np.zeros_like(one)
        one[scaled < least] = 0
    return result


def upsample(maps, height, width):
    """Step 7: bilinear, corners aligned; exactly a cell's value where a pixel is on its center."""
    rows = _bilinear(maps.shape[1], height)
    columns = _bilinear(maps.shape[2], width)
    return np.einsum("yi,cij,xj->cyx", rows, maps, columns, optimize=True)


def background(maps):
    """Step 8: 1 where every class map is 0."""
    return np.all(maps == 0, axis=0).astype(np.float64)


def blur(channels, sigma):
    """Step 9, first half: Gaussian blur; sigma is a fraction of the longer side."""
    pixels = sigma * max(channels.shape[1:])
    return np.stack([gaussian_filter(channel, pixels) for channel in channels])


def stretch(channels):
    """Step 9, second half: each channel min-max scaled to [0, 1], a constant one to 0."""
    result = np.zeros_like(channels)
    for channel, stretched in zip(channels, result, strict=True):
        span = channel.max() - channel.min()
        if span > CONSTANT * np.abs(channel).max():
            stretched[:] = (channel - channel.min()) / span
    return result


def dense_crf(image, channels):
    """Step 10: the marginals of the fully connected CRF of Kraehenbuehl and Koltun, [C, H, W]."""
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    labels, height, width = channels.shape
    field = densecrf.DenseCRF2D(width, height, labels)
    unary = -log_softmax(channels, axis=0).reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary, dtype=np.float32))
    field.addPairwiseGaussian(sxy=3, compat=7)
    field.addPairwiseBilateral(sxy=50, srgb=5, rgbim=np.array(image, np.uint8), compat=10)
    return np.array(field.inference(10)).reshape(channels.shape)


def channels_of(maps, height, width, *, least, sigma, with_background):
    """Steps 6 to 9: class maps [C, gh, gw] to channels [C (+ 1, first), H, W]."""
    large = upsample(threshold(maps, least), height, width)
    if with_background:
        large = np.concatenate([background(large)[None], large])
    return stretch(blur(large, sigma))


def labels_of(channels, *, with_background):
    """Step 11: the best channel of each pixel; 0 is the background, i + 1 is class i."""
    return channels.argmax(axis=0) + (not with_background)


def _bilinear(cells, pixels):
    """Weights [pixels, cells] of bilinear interpolation, the positions in whole numbers."""
    weights = np.zeros((pixels, cells))
    for pixel in range(pixels):
        cell, rest = divmod(pixel * (cells - 1), pixels - 1) if pixels > 1 else (0, 0)
        share = rest / (pixels - 1) if rest else 0.0
        weights[pixel, cell] += 1 - share
        if rest:
            weights[pixel, cell + 1] += share
    return weights
