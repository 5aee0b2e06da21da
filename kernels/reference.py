"""Defines the numeric kernels in NumPy; tests hold every implementation to these functions.

Symbols in shapes:
    B: images of a batch.
    N: captions of a batch; image b has the captions first_caption[b] to first_caption[b + 1] - 1.
    T: tokens of a caption, padding included.
    P: patches of an image, row by row from a grid of gh rows and gw columns.
    C: classes.
    H, W: height and width of an image in pixels.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
Float = TypeVar("Float", bound=np.floating)


def normalize(pixels: NDArray[np.uint8], mean: FloatArray, std: FloatArray) -> FloatArray:
    """Normalize pixels: (pixels / 255 - mean) / std, with the channels first.

    Args:
        pixels: pixels, uint8 [B, H, W, 3].
        mean: mean of each color channel in [0, 1], float32 [3].
        std: standard deviation of each color channel, float32 [3].

    Returns:
        Normalized pixels, float32 [B, 3, H, W].
    """
    scaled = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))


def blank_patches(pixels: FloatArray, dropped: NDArray[np.bool_], patch: int) -> FloatArray:
    """Zero the normalized pixels of dropped patches, so that these show the mean color.

    Args:
        pixels: normalized pixels, [B, 3, H, W]; H is gh * patch, W is gw * patch.
        dropped: whether each patch is dropped, bool [B, P].
        patch: side of a patch in pixels.

    Returns:
        Copy of the pixels with zeros in the dropped patches, [B, 3, H, W].
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
    """Add the salience of a pass to the total, and score the patches of each image.

    The salience of dropped patches counts as zero.

    Args:
        total: salience summed over passes, float32 [N, T, P], changed in place.
        salience: salience of this pass, [N, T, P].
        dropped: whether each patch is dropped, bool [B, P].
        class_token: whether each token belongs to a class, bool [N, T].
        first_caption: index of each image's first caption, int32 [B + 1].
        weight: weight of this pass in the total.

    Returns:
        Scores of the patches, float32 [B, P]: this pass's salience, summed over the class tokens of
        an image's captions.
    """
    scores = np.zeros(dropped.shape, np.float32)
    for image, is_dropped in enumerate(dropped):
        for caption in range(first_caption[image], first_caption[image + 1]):
            visible = np.where(is_dropped, np.float32(0), salience[caption].astype(np.float32))
            total[caption] += np.float32(weight) * visible
            caption_scores = np.zeros_like(scores[image])
            for token in visible[class_token[caption]]:  # one by one: .sum() adds in another order
                caption_scores += token
            scores[image] += caption_scores
    return scores


def drop_salient(
    scores: FloatArray, dropped: NDArray[np.bool_], count: int | None
) -> NDArray[np.bool_]:
    """Drop the remaining patches of the highest scores; among equal scores, the lower index first.

    Args:
        scores: scores of the patches, float32 [B, P].
        dropped: whether each patch was dropped by an earlier pass, bool [B, P].
        count: number of patches to drop in each image, at most all remaining ones. None stands for
            half of the remaining patches, rounded down.

    Returns:
        Whether each patch is dropped by an earlier pass or by this call, bool [B, P].
    """
    result = dropped.copy()
    for image_scores, before, after in zip(scores, dropped, result, strict=True):
        order = np.argsort(-image_scores, kind="stable")
        remaining = order[~before[order]]
        after[remaining[: len(remaining) // 2 if count is None else count]] = True
    return result


def class_maps(
    total: FloatArray,
    members: NDArray[np.int32],
    first_member: NDArray[np.int32],
    summed: NDArray[np.bool_],
) -> FloatArray:
    """Compute the salience map of each class: the mean over the class's tokens.

    Args:
        total: salience summed over passes, float32 [N, T, P].
        members: tokens of all classes, int32 [M]; token t of caption n has the number n * T + t.
        first_member: index of each class's first member, int32 [C + 1]; class c has the members
            first_member[c] to first_member[c + 1] - 1.
        summed: whether a class's map is the sum over its tokens instead of the mean, bool [C].

    Returns:
        Class maps, float32 [C, P].
    """
    rows = total.reshape(-1, total.shape[-1])
    maps = np.empty((len(summed), rows.shape[1]), np.float32)
    for index, is_sum in enumerate(summed):
        tokens = rows[members[first_member[index] : first_member[index + 1]]]
        maps[index] = tokens.sum(axis=0) if is_sum else tokens.mean(axis=0)
    return maps


def min_max(values: FloatArray) -> FloatArray:
    """Scale values to [0, 1] by their minimum and maximum; equal values all become 0."""
    low, high = values.min(), values.max()
    if not high > low:
        return np.zeros_like(values)
    return (values - low) / (high - low)


def threshold(maps: FloatArray, level: float) -> FloatArray:
    """Zero each class map where its min-max scaled form is below the threshold.

    Everywhere else the map keeps its unscaled values: later steps undo a factor of a map, but no
    offset. The scaled form of a map of equal values is 0 everywhere.

    Args:
        maps: class maps, float32 [C, gh, gw], which are scaled in float64.
        level: threshold, from 0 to 1.

    Returns:
        Class maps with zeros below the threshold, float32 [C, gh, gw].
    """
    below = np.stack([min_max(class_map.astype(np.float64)) for class_map in maps]) < level
    return np.where(below, np.float32(0), maps)


def background(maps: FloatArray) -> FloatArray:
    """Mark where every class map, upsampled bilinearly with aligned corners, is 0.

    A pixel's upsampled value depends only on the cells (patches) around it. So the result has an
    entry for each cell and for each gap between neighboring cells. `cells_matrix` says in which
    cell or gap a pixel lies.

    Args:
        maps: class maps, [C, gh, gw], at least 0.

    Returns:
        The background, float32 [2gh - 1, 2gw - 1]. Entry [2i, 2j] is 1 where all maps are 0 in
        cell (i, j). An entry between cells is 1 where all cells around it are 1.
    """
    empty = ~maps.any(axis=0)
    for axis in (0, 1):
        doubled = np.moveaxis(empty.repeat(2, axis), axis, 0)
        empty = np.moveaxis(doubled[:-1] & doubled[1:], 0, axis)
    return empty.astype(np.float32)


def resample(
    rows: FloatArray, maps: FloatArray, columns: FloatArray, out: FloatArray, levels: FloatArray
) -> None:
    """Upsample each class map: rows @ map @ columns^T, scaled, less its value at the first pixel.

    Sums are in float64. A map is scaled by the power of two that brings its largest magnitude below
    1. The scale keeps the digits of maps of very small values in float32. The offset keeps those of
    a map whose contrast is small compared with its values. `scale_channels` undoes both.

    Args:
        rows: vertical interpolation matrix, float64 [H, gh].
        maps: class maps, float32 [C, gh, gw].
        columns: horizontal interpolation matrix, float64 [W, gw].
        out: upsampled channels, float32 [C, H, W], filled in by the call.
        levels: scaled values at the first pixel, float64 [C], filled in by the call.
    """
    channel = np.empty(out.shape[1:])
    for index, class_map in enumerate(maps):
        _, exponent = np.frexp(np.abs(class_map).max())
        scaled = np.ldexp(class_map.astype(np.float64), -exponent)
        np.matmul(rows @ scaled, columns.T, out=channel)
        levels[index] = channel[0, 0]
        np.subtract(channel, levels[index], out=out[index], casting="same_kind")


def upsampling_matrix(source: int, target: int) -> NDArray[np.float64]:
    """Return the matrix of bilinear interpolation along a line with aligned corners.

    Positions are exact fractions: a target pixel on a source pixel takes exactly that value.

    Args:
        source: number of source pixels.
        target: number of target pixels.

    Returns:
        The matrix, float64 [target, source].
    """
    matrix = np.zeros((target, source))
    lower, fraction = _positions(source, target)
    rows = np.arange(target)
    matrix[rows, lower] = 1 - fraction
    matrix[rows, np.minimum(lower + 1, source - 1)] += fraction
    return matrix


def cells_matrix(source: int, target: int) -> NDArray[np.float64]:
    """Return the matrix that says in which cell, or gap between two cells, a target pixel lies.

    Pixels are placed as by `upsampling_matrix`. Column 2i is cell i, column 2i + 1 the gap between
    cells i and i + 1.

    Args:
        source: number of cells.
        target: number of target pixels.

    Returns:
        The matrix of zeros and ones, float64 [target, 2 * source - 1].
    """
    matrix = np.zeros((target, 2 * source - 1))
    lower, fraction = _positions(source, target)
    matrix[np.arange(target), 2 * lower + (fraction > 0)] = 1
    return matrix


def _positions(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the source pixel at or before each target pixel, and the next pixel's weight."""
    positions, steps = np.arange(target) * (source - 1), max(target - 1, 1)
    return positions // steps, positions % steps / steps


def gaussian_weights(sigma: float) -> NDArray[np.float64]:
    """Return the weights, summing to 1, of a Gaussian of sigma pixels, truncated at 4 sigma."""
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    return weights / weights.sum()


def gaussian_blur(values: NDArray[Float], sigma: float, axis: int) -> NDArray[Float]:
    """Blur values by a Gaussian along one axis, as `scipy.ndimage.gaussian_filter1d` by default.

    The Gaussian is truncated at 4 sigma, and the values are reflected at the edges. Reflection
    makes a line periodic over twice its length. So the blur is a circular convolution, which the
    FFT computes in O(n log n) at any sigma.

    Args:
        values: values, of any shape.
        sigma: standard deviation in pixels.
        axis: axis along which the values are blurred.

    Returns:
        Blurred values, of the shape and dtype of `values`.
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
    """Scale each channel to [0, 1], in place; a channel that is constant up to rounding becomes 0.

    Args:
        channels: channels less their levels, float32 [C, H, W].
        levels: values that `resample` subtracted from the channels, float64 [C].
        rounding: largest span of a constant channel, relative to the channel's largest magnitude.
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
    """Return the softmax over the first axis, the channels [C, H, W]."""
    exponent = np.exp(channels - channels.max(axis=0))
    return exponent / exponent.sum(axis=0)


def choose_labels(channels: FloatArray, numbers: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Label each pixel with the number of its largest channel; among equals, the first.

    Args:
        channels: channels, float32 [C, H, W].
        numbers: number of each channel, uint16 [C].

    Returns:
        Labels, uint16 [H, W].
    """
    return numbers[channels.argmax(axis=0)]
