"""The numeric kernels in NumPy: the definition that every other implementation is held to.

A batch has B pictures and N captions of T tokens, padding included; the captions of picture b are
those from first_caption[b] to first_caption[b + 1]. P patches stand in a p x p grid, row by row. C
classes, H x W pixels. Nothing here knows of models, files or settings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def normalise(pixels: NDArray[np.uint8], mean: FloatArray, std: FloatArray) -> FloatArray:
    """(pixels / 255 - mean) / std, channels first.

    Args:
        pixels: [B, S, S, 3].
        mean: float32 [3].
        std: float32 [3].

    Returns:
        float32 [B, 3, S, S].
    """
    scaled = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))


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


def accumulate(
    total: FloatArray,
    salience: FloatArray,
    dropped: NDArray[np.bool_],
    class_token: NDArray[np.bool_],
    first_caption: NDArray[np.int32],
    weight: float,
) -> FloatArray:
    """Add the salience of a pass to the total, and score the patches; dropped ones have none.

    Args:
        total: float32 [N, T, P], changed in place.
        salience: [N, T, P].
        dropped: [B, P].
        class_token: [N, T], whether a token belongs to a class.
        first_caption: [B + 1].
        weight: of this pass in the total.

    Returns:
        float32 [B, P], the salience summed over the class tokens of a picture's captions.
    """
    scores = np.zeros(dropped.shape, np.float32)
    for picture, gone in enumerate(dropped):
        for caption in range(first_caption[picture], first_caption[picture + 1]):
            own = np.where(gone, np.float32(0), salience[caption].astype(np.float32))
            total[caption] += np.float32(weight) * own
            of_caption = np.zeros_like(scores[picture])
            for token in own[class_token[caption]]:  # in order, which that of .sum() is not
                of_caption += token
            scores[picture] += of_caption
    return scores


def drop_salient(
    scores: FloatArray, dropped: NDArray[np.bool_], count: int | None
) -> NDArray[np.bool_]:
    """Drop the highest-scoring patches that are still there; of equals, the lower index.

    Args:
        scores: [B, P].
        dropped: [B, P], the patches dropped so far.
        count: how many to drop of each picture; all that are left, where fewer are. None for half
            of those left, rounded down.

    Returns:
        [B, P], the patches dropped now.
    """
    result = dropped.copy()
    for own, gone, now in zip(scores, dropped, result, strict=True):
        order = np.argsort(-own, kind="stable")
        left = order[~gone[order]]
        now[left[: len(left) // 2 if count is None else count]] = True
    return result


def class_maps(
    total: FloatArray,
    members: NDArray[np.int32],
    first_member: NDArray[np.int32],
    summed: NDArray[np.bool_],
) -> FloatArray:
    """The salience of each class: the mean over its tokens.

    Args:
        total: float32 [N, T, P].
        members: int32 [M], the tokens of the classes, counted through all captions: n * T + t.
        first_member: int32 [C + 1]; class c has the members from first_member[c] to the next.
        summed: [C], where to sum over the tokens instead.

    Returns:
        float32 [C, P].
    """
    rows = total.reshape(-1, total.shape[-1])
    maps = np.empty((len(summed), rows.shape[1]), np.float32)
    for index, only_sum in enumerate(summed):
        own = rows[members[first_member[index] : first_member[index + 1]]]
        maps[index] = own.sum(axis=0) if only_sum else own.mean(axis=0)
    return maps


def min_max(values: FloatArray) -> FloatArray:
    """Scale to [0, 1]; where all values are equal, all zero."""
    low, high = values.min(), values.max()
    if not high > low:
        return np.zeros_like(values)
    return (values - low) / (high - low)


def threshold(maps: FloatArray, level: float) -> FloatArray:
    """Scale each map [C, p, p] to [0, 1], and zero it where it is below `level` then."""
    scaled = np.stack([min_max(one) for one in maps])
    scaled[scaled < np.float32(level)] = 0
    return scaled


def background(maps: FloatArray, height: int, width: int) -> FloatArray:
    """1 where every map, upsampled bilinearly with aligned corners, is 0.

    That is so where it is 0 in all the patches that a pixel is interpolated from.

    Args:
        maps: [C, p, p], at least 0.
        height: H.
        width: W.

    Returns:
        float32 [H, W].
    """
    rows, columns = (
        (upsampling_matrix(maps.shape[1], size) > 0).astype(np.float32) for size in (height, width)
    )
    return (rows @ maps.any(axis=0) @ columns.T == 0).astype(np.float32)


def resample(rows: FloatArray, maps: FloatArray, columns: FloatArray, out: FloatArray) -> None:
    """Rows @ map @ columns^T, for each map.

    Args:
        rows: [H, p].
        maps: [C, p, p].
        columns: [W, p].
        out: float32 [C, H, W], is filled.
    """
    for own, into in zip(maps, out, strict=True):
        np.matmul(rows @ own, columns.T, out=into)


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


def gaussian_weights(sigma: float) -> NDArray[np.float64]:
    """Of a Gaussian truncated at 4 sigma, which is in pixels; they sum to 1."""
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    return weights / weights.sum()


def gaussian_blur(values: FloatArray, sigma: float, axis: int) -> FloatArray:
    """Gaussian along one axis, truncated at 4 sigma, reflected at the edges.

    What `scipy.ndimage.gaussian_filter1d` does by default. Reflection makes the line periodic over
    twice its length, so the sum is a circular convolution and costs O(n log n) at any sigma.
    """
    weights = gaussian_weights(sigma)
    radius = len(weights) // 2
    if radius == 0:
        return values.copy()
    length = values.shape[axis]
    kernel = np.zeros(2 * length)
    np.add.at(kernel, np.arange(-radius, radius + 1) % (2 * length), weights)
    spectrum = np.fft.rfft(kernel).real.astype(values.dtype)
    line = np.moveaxis(values, axis, -1)
    period = np.concatenate([line, line[..., ::-1]], axis=-1)
    blurred = np.fft.irfft(np.fft.rfft(period) * spectrum, n=2 * length)[..., :length]
    return np.moveaxis(blurred.astype(values.dtype, copy=False), -1, axis)


def blur(image: FloatArray, sigma: float) -> FloatArray:
    """`gaussian_blur` along both axes of [H, W]."""
    return gaussian_blur(gaussian_blur(image, sigma, 0), sigma, 1)


def scale_channels(channels: FloatArray, rounding: float) -> None:
    """Scale each channel to [0, 1], in place; one that is constant but for rounding becomes zero.

    Args:
        channels: float32 [C, H, W].
        rounding: what counts as constant: a span of so much of the largest magnitude.
    """
    for channel in channels:
        flat = np.ptp(channel) <= np.float32(rounding) * np.abs(channel).max()
        channel[:] = 0 if flat else min_max(channel)


def softmax(channels: FloatArray) -> FloatArray:
    """Over the first axis."""
    exponent = np.exp(channels - channels.max(axis=0))
    return exponent / exponent.sum(axis=0)


def choose_labels(channels: FloatArray, numbers: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The number, of numbers [C], of the channel [C, H, W] that is largest; of equals the first."""
    return numbers[channels.argmax(axis=0)]
