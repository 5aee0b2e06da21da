"""The numeric kernels in NumPy: the definition that every other implementation is held to.

A batch has B images and N captions of T tokens, padding included; the captions of image b are
those from first_caption[b] to first_caption[b + 1]. P patches stand in a grid of gh rows and gw
columns, row by row. C classes, H x W pixels. Nothing here knows of models, files or settings.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
Float = TypeVar("Float", bound=np.floating)


def normalize(pixels: NDArray[np.uint8], mean: FloatArray, std: FloatArray) -> FloatArray:
    """(pixels / 255 - mean) / std, channels first.

    Args:
        pixels: [B, H, W, 3].
        mean: float32 [3].
        std: float32 [3].

    Returns:
        float32 [B, 3, H, W].
    """
    scaled = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))


def blank_patches(pixels: FloatArray, dropped: NDArray[np.bool_], patch: int) -> FloatArray:
    """Zero the normalized pixels of dropped patches, so that they show the mean color.

    Args:
        pixels: [B, 3, H, W]; H and W are gh and gw patches.
        dropped: [B, P].
        patch: side of a patch in pixels.

    Returns:
        A copy of `pixels` with the patches blanked.
    """
    batch, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    tiles = pixels.copy().reshape(batch, channels, rows, patch, columns, patch)
    keep = ~dropped.reshape(batch, 1, rows, 1, columns, 1)
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
        float32 [B, P], the salience summed over the class tokens of an image's captions.
    """
    scores = np.zeros(dropped.shape, np.float32)
    for image, gone in enumerate(dropped):
        for caption in range(first_caption[image], first_caption[image + 1]):
            own = np.where(gone, np.float32(0), salience[caption].astype(np.float32))
            total[caption] += np.float32(weight) * own
            of_caption = np.zeros_like(scores[image])
            for token in own[class_token[caption]]:  # in order, which that of .sum() is not
                of_caption += token
            scores[image] += of_caption
    return scores


def drop_salient(
    scores: FloatArray, dropped: NDArray[np.bool_], count: int | None
) -> NDArray[np.bool_]:
    """Drop the highest-scoring patches that are still there; of equals, the lower index.

    Args:
        scores: [B, P].
        dropped: [B, P], the patches dropped so far.
        count: how many to drop of each image; all that are left, where fewer are. None for half
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
    """Zero each map where it is below `level` once scaled to [0, 1]; its own values stay elsewhere.

    The scaled map only makes the mask: what follows undoes a scale of a map, but no offset. The
    scaled form of a map of equal values is 0 everywhere.

    Args:
        maps: float32 [C, gh, gw]; they are scaled in float64.
        level: from 0 to 1.

    Returns:
        float32 [C, gh, gw].
    """
    below = np.stack([min_max(one.astype(np.float64)) for one in maps]) < level
    return np.where(below, np.float32(0), maps)


def background(maps: FloatArray) -> FloatArray:
    """1 where every map, upsampled bilinearly with aligned corners, is 0.

    Upsampled, that depends on the cells alone between which a pixel lies, so it is told for each
    cell and each gap between neighbors, and `cells_matrix` says where a pixel is.

    Args:
        maps: [C, gh, gw], at least 0.

    Returns:
        float32 [2gh - 1, 2gw - 1]: of every second row and column a cell's own, between them 1
        where the cells on both sides are.
    """
    empty = ~maps.any(axis=0)
    for axis in (0, 1):
        twice = np.moveaxis(empty.repeat(2, axis), axis, 0)
        empty = np.moveaxis(twice[:-1] & twice[1:], 0, axis)
    return empty.astype(np.float32)


def resample(
    rows: FloatArray, maps: FloatArray, columns: FloatArray, out: FloatArray, levels: FloatArray
) -> None:
    """Rows @ map @ columns^T of each map in a unit of its own, less its value at the first pixel.

    Sums are in float64. Both the unit, the power of two above the map's largest value, and the
    value that is left out keep the digits of what is then rounded to float32: of maps of the
    smallest values, and of a contrast that is small beside them. `scale_channels` undoes both, and
    makes any contrast as large as another.

    Args:
        rows: float64 [H, gh].
        maps: float32 [C, gh, gw].
        columns: float64 [W, gw].
        out: float32 [C, H, W], is filled.
        levels: float64 [C], is filled with the values at the first pixel.
    """
    channel = np.empty(out.shape[1:])
    for index, one in enumerate(maps):
        _, exponent = np.frexp(np.abs(one).max())
        np.matmul(rows @ np.ldexp(one.astype(np.float64), -exponent), columns.T, out=channel)
        levels[index] = channel[0, 0]
        np.subtract(channel, levels[index], out=out[index], casting="same_kind")


def upsampling_matrix(source: int, target: int) -> NDArray[np.float64]:
    """[target, source]: bilinear interpolation of a line with aligned corners.

    Positions are exact fractions, so that a target pixel that lies on a source pixel takes exactly
    its value.
    """
    matrix = np.zeros((target, source))
    lower, share = _positions(source, target)
    rows = np.arange(target)
    matrix[rows, lower] = 1 - share
    matrix[rows, np.minimum(lower + 1, source - 1)] += share
    return matrix


def cells_matrix(source: int, target: int) -> NDArray[np.float64]:
    """[target, 2 * source - 1]: 1 for the cell, or the gap between two, that a target pixel is in.

    As `upsampling_matrix` places them: 2i is cell i, 2i + 1 the gap between it and the next.
    """
    matrix = np.zeros((target, 2 * source - 1))
    lower, share = _positions(source, target)
    matrix[np.arange(target), 2 * lower + (share > 0)] = 1
    return matrix


def _positions(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The source pixel at or before each target pixel, and the share of the one after it."""
    positions, steps = np.arange(target) * (source - 1), max(target - 1, 1)
    return positions // steps, positions % steps / steps


def gaussian_weights(sigma: float) -> NDArray[np.float64]:
    """Of a Gaussian truncated at 4 sigma, which is in pixels; they sum to 1."""
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    return weights / weights.sum()


def gaussian_blur(values: NDArray[Float], sigma: float, axis: int) -> NDArray[Float]:
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


def scale_channels(channels: FloatArray, levels: FloatArray, rounding: float) -> None:
    """Scale each channel to [0, 1], in place; one that is constant but for rounding becomes zero.

    Args:
        channels: float32 [C, H, W], less their levels.
        levels: float64 [C], as `resample` leaves them.
        rounding: what counts as constant: a span of so much of the largest magnitude.
    """
    for channel, level in zip(channels, levels, strict=True):
        low, high = channel.min(), channel.max()
        span = np.float64(high) - low
        if span <= rounding * max(abs(low + level), abs(high + level)):
            channel[:] = 0
        else:
            channel -= low
            channel /= np.float32(span)


def softmax(channels: FloatArray) -> FloatArray:
    """Over the first axis."""
    exponent = np.exp(channels - channels.max(axis=0))
    return exponent / exponent.sum(axis=0)


def choose_labels(channels: FloatArray, numbers: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The number, of numbers [C], of the channel [C, H, W] that is largest; of equals the first."""
    return numbers[channels.argmax(axis=0)]
