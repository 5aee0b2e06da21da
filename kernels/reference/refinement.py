"""Defines the refinement of class maps: from class maps to labels.

Symbols in shapes:
    C: class maps.
    N: channels: the background, where there is one, and then a channel for each class map.
    gh, gw: rows and columns of the grid of patches.
    H, W: height and width of an image in pixels.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
Float = TypeVar("Float", bound=np.floating)

ROUNDING = 1e-5  # a channel is constant where it spans no more of its largest magnitude
_FFT_ROUNDING = 1e-14  # seen: 2e-16 where there is nothing, 3e-13 where there is least


class Lines(NamedTuple):
    """The matrices that make channels of class maps: upsampling and blur along the two axes.

    Both are linear and separable, so a channel is rows @ map @ columns^T. The background is
    constant within each cell of the grid and each gap between cells, so its blur is such a product
    too.

    Attributes:
        rows: vertical upsampling and blur, float64 [H, gh].
        columns: horizontal upsampling and blur, float64 [W, gw].
        cell_rows: vertical blur of cells and gaps, float64 [H, 2gh - 1]; None where there is no
            background.
        cell_columns: horizontal blur of cells and gaps, float64 [W, 2gw - 1], or None.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    cell_rows: NDArray[np.float64] | None = None
    cell_columns: NDArray[np.float64] | None = None

    @property
    def has_background(self) -> bool:
        """Whether a background channel comes first."""
        return self.cell_rows is not None


def line_matrices(
    grid: tuple[int, int], size: tuple[int, int], sigma: float, *, background: bool
) -> Lines:
    """Make the matrices for an image.

    Args:
        grid: rows and columns of patches, (gh, gw).
        size: height and width of the image in pixels, (H, W).
        sigma: standard deviation of the Gaussian in pixels.
        background: whether there is a background channel.
    """
    axes = tuple(zip(grid, size, strict=True))
    matrices = [_blurred(upsampling_matrix(*axis), sigma) for axis in axes]
    if background:
        matrices += [_blurred(cells_matrix(*axis), sigma) for axis in axes]
    return Lines(*matrices)


def channels(maps: FloatArray, lines: Lines, level: float) -> FloatArray:
    """Make channels of class maps: threshold, background, upsampling, blur, scaling.

    Args:
        maps: class maps, float32 [C, gh, gw], at least 0 and finite.
        lines: matrices for the grid and the image.
        level: threshold, from 0 to 1; a map is 0 below this part of its range.

    Returns:
        Channels, each scaled to [0, 1], float32 [N, H, W]; the background first.
    """
    kept = threshold(maps, level)
    first = int(lines.has_background)
    out = np.empty((first + len(maps), len(lines.rows), len(lines.columns)), np.float32)
    levels = np.empty(len(out), np.float64)
    if lines.cell_rows is not None and lines.cell_columns is not None:
        cells = background(kept)[None]
        resample(lines.cell_rows, cells, lines.cell_columns, out[:1], levels[:1])
    resample(lines.rows, kept, lines.columns, out[first:], levels[first:])
    scale_channels(out, levels, ROUNDING)
    return out


def probabilities(maps: FloatArray, lines: Lines, level: float) -> FloatArray:
    """Return the softmax over the channels of class maps, float32 [N, H, W]."""
    return softmax(channels(maps, lines, level))


def labels(
    maps: FloatArray, lines: Lines, level: float, numbers: NDArray[np.uint16]
) -> NDArray[np.uint16]:
    """Label each pixel with the number (of uint16 [N]) of its largest channel, uint16 [H, W]."""
    return choose_labels(channels(maps, lines, level), numbers)


def enlarged_labels(
    probabilities: FloatArray, numbers: NDArray[np.uint16], height: int, width: int
) -> NDArray[np.uint16]:
    """Enlarge probabilities bilinearly, and label each pixel by the largest.

    Pixels are areas, as in the resize of images: the center of pixel i lies at (i + 1/2) * h / H -
    1/2 of the small image.

    Args:
        probabilities: probabilities, float32 [N, h, w].
        numbers: number of each channel, uint16 [N].
        height: height of the labels, H.
        width: width of the labels, W.

    Returns:
        Labels, uint16 [H, W]; among equal probabilities the first wins.
    """
    for axis, size in ((1, height), (2, width)):
        lower, upper, part = _between(probabilities.shape[axis], size)
        part = part.reshape(-1, *[1] * (2 - axis))
        below, above = probabilities.take(lower, axis), probabilities.take(upper, axis)
        probabilities = below * (1 - part) + above * part
    return choose_labels(probabilities, numbers)


def _between(
    source: int, target: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return the pixels before and after each target pixel's center, and the latter's weight."""
    position = np.maximum((2 * np.arange(target) + 1) * source - target, 0)
    lower = np.minimum(position // (2 * target), source - 1)
    part = (position - 2 * target * lower) / (2 * target)
    return lower, np.minimum(lower + 1, source - 1), part.astype(np.float32)


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

    Everything is in float64. A map is divided by its largest magnitude first. That keeps the digits
    of very small values in float32. Proportional maps, such as two with one and the same patch,
    give equal channels. The offset keeps the digits of a map whose contrast is small compared with
    its values. `scale_channels` undoes both.

    Args:
        rows: vertical interpolation matrix, float64 [H, gh].
        maps: class maps, float32 [C, gh, gw].
        columns: horizontal interpolation matrix, float64 [W, gw].
        out: upsampled channels, float32 [C, H, W], filled in by the call.
        levels: scaled values at the first pixel, float64 [C], filled in by the call.
    """
    channel = np.empty(out.shape[1:])
    for index, class_map in enumerate(maps):
        largest = np.float64(np.abs(class_map).max())
        scaled = class_map / (largest or 1.0)
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


def _blurred(matrix: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Blur along the rows; what is 0 stays exactly 0, so that empty channels stay equal."""
    blurred = gaussian_blur(matrix, sigma, 0)
    blurred[np.abs(blurred) < _FFT_ROUNDING] = 0
    return blurred
