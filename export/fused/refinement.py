"""Appends refinement to a graph: from class maps to labels of one size, without a CRF.

`kernels.reference` defines what it computes. Everything is in float32,
as TensorRT has no float64. Shapes: B images, C classes, a grid of gh x gw, labels of H x W.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ...engine.refine.channels import FEW_CLASSES
from ...engine.settings import Settings
from ...kernels.cpu.refine import line_matrices
from ...kernels.reference import ROUNDING
from ..graphs.builder import FLOAT
from ..graphs.precision import compute_in_float32
from .compose import Composition

LABELS = ir.DataType.INT32  # TensorRT has no uint16


def labels(
    graph: Composition,
    class_maps: ir.Value,
    class_tokens: ir.Value,
    grid: tuple[int, int],
    size: tuple[int, int],
    settings: Settings,
) -> ir.Value:
    """Append the labels of images.

    Args:
        graph: graph that the nodes are appended to.
        class_maps: class maps, at least 0; [B, C, gh, gw].
        class_tokens: weights of tokens in the classes, [B, C, T]; a row of zeros is no class.
        grid: rows and columns of the grid, (gh, gw).
        size: height and width of the images, (H, W).
        settings: threshold, blur and background.

    Returns:
        Labels, int32 [B, H, W]: 0 for the background, i + 1 for the class of index i.
    """
    kept = _threshold(graph, class_maps, settings.threshold)
    lines = line_matrices(
        grid, size, settings.blur * max(size), background=settings.background != "never"
    )
    each = graph.Reshape(kept, graph.ints(-1, *grid))
    scaled = _scaled(graph, each, lines.rows, lines.columns)
    images = graph.Concat(graph.Shape(kept, start=0, end=2), graph.ints(*size), axis=0)
    of_classes = graph.Reshape(scaled, images)
    if lines.cell_rows is None or lines.cell_columns is None:
        return _choose(graph, of_classes, first=1)
    cells = _background(graph, kept, grid)
    scaled = _scaled(graph, cells, lines.cell_rows, lines.cell_columns)
    background = graph.Unsqueeze(scaled, graph.ints(1))
    if settings.background == "auto":
        few = graph.Less(_count(graph, class_tokens), graph.scalar(float(FEW_CLASSES)))
        background = graph.Where(few, background, graph.scalar(-1.0))  # below all channels
    return _choose(graph, graph.Concat(background, of_classes, axis=1), first=0)


def _threshold(graph: Composition, maps: ir.Value, level: float) -> ir.Value:
    """Append maps with zeros where their min-max scaled form is below the threshold."""
    if level == 0:
        return maps
    axes = graph.ints(2, 3)
    low, high = graph.ReduceMin(maps, axes), graph.ReduceMax(maps, axes)
    span = graph.Sub(high, low)
    reaches = graph.GreaterOrEqual(graph.Sub(maps, low), graph.Mul(span, graph.scalar(level)))
    varies = graph.Greater(span, graph.scalar(0.0))  # else the scaled form is 0 everywhere
    return graph.Where(graph.And(reaches, varies), maps, graph.scalar(0.0))


def _background(graph: Composition, maps: ir.Value, grid: tuple[int, int]) -> ir.Value:
    """Append a map that is 1 in cells, and in gaps between cells, without any class.

    Returns:
        The map, [B, 2gh - 1, 2gw - 1].
    """
    largest = graph.ReduceMax(maps, graph.ints(1), keepdims=0)
    empty = graph.Cast(graph.Equal(largest, graph.scalar(0.0)), to=FLOAT)
    for axis, cells in enumerate(grid, 1):
        places = range(2 * cells - 1)  # an even one is a cell, an odd one lies between two
        before = graph.ints(*(place // 2 for place in places))
        after = graph.ints(*((place + 1) // 2 for place in places))
        empty = graph.Mul(
            graph.Gather(empty, before, axis=axis), graph.Gather(empty, after, axis=axis)
        )
    return empty


def _scaled(graph: Composition, maps: ir.Value, rows: np.ndarray, columns: np.ndarray) -> ir.Value:
    """Append channels of maps, rows @ map @ columns^T, each scaled to [0, 1].

    A channel that is constant up to rounding becomes 0. The products are of the map less its least
    value, divided by its largest: float32 keeps the contrast of a map, whatever its values.

    Args:
        graph: graph that the nodes are appended to.
        maps: maps, at least 0; [M, h, w].
        rows: vertical interpolation matrix, whose rows sum to 1; [H, h].
        columns: horizontal interpolation matrix, whose rows sum to 1; [W, w].

    Returns:
        Channels, [M, H, W].
    """
    zero, one, axes = graph.scalar(0.0), graph.scalar(1.0), graph.ints(1, 2)
    down = graph.constant(rows.astype(np.float32))
    across = graph.constant(np.ascontiguousarray(columns.T, np.float32))
    low, high = graph.ReduceMin(maps, axes), graph.ReduceMax(maps, axes)
    factor = graph.Where(graph.Greater(high, zero), high, one)
    above = graph.Div(graph.Sub(maps, low), factor)
    tall = compute_in_float32(graph.MatMul(down, above))
    product = compute_in_float32(graph.MatMul(tall, across))
    # Less the value at the first pixel, as the engine has it: level channels are level in both.
    level = graph.Slice(product, graph.ints(0, 0), graph.ints(1, 1), axes)
    whole = graph.Sub(product, level)
    least, most = graph.ReduceMin(whole, axes), graph.ReduceMax(whole, axes)
    span = graph.Sub(most, least)
    largest = graph.Add(graph.Add(most, level), graph.Div(low, factor))
    varies = graph.Greater(span, graph.Mul(largest, graph.scalar(ROUNDING)))
    scaled = graph.Div(graph.Sub(whole, least), graph.Where(varies, span, one))
    # Runtimes may multiply by the reciprocal, but a maximum must be exactly 1: others are, too.
    capped = graph.Where(graph.GreaterOrEqual(whole, most), one, scaled)
    return graph.Where(varies, capped, zero)


def _count(graph: Composition, class_tokens: ir.Value) -> ir.Value:
    """Append the number of classes of each image, [B, C, T] -> [B, 1, 1, 1]."""
    largest = graph.ReduceMax(class_tokens, graph.ints(2))
    is_class = graph.Cast(graph.Greater(largest, graph.scalar(0.0)), to=FLOAT)
    return graph.Unsqueeze(graph.ReduceSum(is_class, graph.ints(1)), graph.ints(3))


def _choose(graph: Composition, of_classes: ir.Value, *, first: int) -> ir.Value:
    """Append the number of the largest channel of each pixel; among equals, the first.

    ArgMax is not used, as runtimes differ where channels are equal.

    Args:
        graph: graph that the nodes are appended to.
        of_classes: channels, [M, H, W].
        first: number of the first channel.

    Returns:
        Numbers, int32 [B, H, W].
    """
    largest = graph.ReduceMax(of_classes, graph.ints(1))
    count = graph.Squeeze(graph.Shape(of_classes, start=1, end=2), graph.ints(0))
    end = graph.Add(count, graph.integer(first))
    numbers = graph.Cast(graph.Range(graph.integer(first), end, graph.integer(1)), to=FLOAT)
    of_channels = graph.Unsqueeze(numbers, graph.ints(1, 2))
    none = graph.scalar(float(1 << 24))
    chosen = graph.Where(graph.GreaterOrEqual(of_classes, largest), of_channels, none)
    return graph.Cast(graph.ReduceMin(chosen, graph.ints(1), keepdims=0), to=LABELS)
