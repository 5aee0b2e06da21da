"""Calls the refinement in C++, `cpu/refine.cpp` and `cpu/lines.cpp`, through ctypes.

`reference` defines what each function computes. The GIL is released.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from ..reference import Lines
from .library import check, load

_Floats = npt.NDArray[np.float32]
_Numbers = npt.NDArray[np.uint16]


class _Parameters(ctypes.Structure):
    """Sizes, threshold and matrices, laid out as `pnp_refine_params` in `refine.h`."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("maps", "grid_height", "grid_width")),
        *((name, ctypes.c_int32) for name in ("height", "width")),
        ("threshold", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("rows", "columns", "cell_rows", "cell_columns")),
    )


def line_matrices(
    grid: tuple[int, int], size: tuple[int, int], sigma: float, *, background: bool
) -> Lines:
    """Make the matrices for an image; see `reference.line_matrices`.

    Raises:
        ValueError: a size or sigma is out of range.
        MemoryError: memory ran out.
        ImportError: the C++ extension was not built.
    """
    kinds = ("upsampling", "cells") if background else ("upsampling",)
    return Lines(
        *(_matrix(kind, *axis, sigma) for kind in kinds for axis in zip(grid, size, strict=True))
    )


def channels(maps: _Floats, lines: Lines, level: float) -> _Floats:
    """Make channels of class maps, each scaled to [0, 1]: [C, gh, gw] -> [N, H, W]."""
    return _floats("channels", maps, lines, level)


def probabilities(maps: _Floats, lines: Lines, level: float) -> _Floats:
    """Return the softmax over the channels of class maps: [C, gh, gw] -> [N, H, W]."""
    return _floats("probabilities", maps, lines, level)


def labels(maps: _Floats, lines: Lines, level: float, numbers: _Numbers) -> _Numbers:
    """Label each pixel with the number of its largest channel: [C, gh, gw] -> uint16 [H, W].

    No channel is kept: it takes memory for the labels, and for some rows of pixels.
    """
    parameters, kept = _parameters(maps, lines, level)
    numbers = _checked_numbers(numbers, len(maps) + lines.has_background)
    out = np.empty((parameters.height, parameters.width), np.uint16)
    _call("labels", kept[0], ctypes.byref(parameters), numbers, out)
    return out


def enlarged_labels(probabilities: _Floats, numbers: _Numbers, height: int, width: int) -> _Numbers:
    """Enlarge probabilities bilinearly, and label each pixel by the largest."""
    values = np.ascontiguousarray(probabilities, np.float32)
    numbers = _checked_numbers(numbers, len(values))
    out = np.empty((height, width), np.uint16)
    sizes = map(ctypes.c_int32, values.shape)
    _call("enlarged_labels", values, *sizes, numbers, *map(ctypes.c_int32, out.shape), out)
    return out


def _matrix(kind: str, grid: int, size: int, sigma: float) -> npt.NDArray[np.float64]:
    out = np.empty((size, grid if kind == "upsampling" else 2 * grid - 1))
    _call(kind, *map(ctypes.c_int32, (grid, size)), ctypes.c_double(sigma), out)
    return out


def _floats(name: str, maps: _Floats, lines: Lines, level: float) -> _Floats:
    parameters, kept = _parameters(maps, lines, level)
    count = parameters.maps + lines.has_background
    out = np.empty((count, parameters.height, parameters.width), np.float32)
    _call(name, kept[0], ctypes.byref(parameters), out)
    return out


def _parameters(
    maps: _Floats, lines: Lines, level: float
) -> tuple[_Parameters, list[npt.NDArray[Any] | None]]:
    """Lay out the parameters; also return the arrays that they point to, the maps first.

    Raises:
        ValueError: a shape does not fit the others.
    """
    count, grid_height, grid_width = maps.shape
    kept = [np.ascontiguousarray(maps, np.float32)]
    matrices = [
        None if matrix is None else np.ascontiguousarray(matrix, np.float64) for matrix in lines
    ]
    cells = (grid_height, grid_width, 2 * grid_height - 1, 2 * grid_width - 1)
    for matrix, inner, outer in zip(matrices, cells, (lines.rows, lines.columns) * 2, strict=True):
        if matrix is not None and matrix.shape != (len(outer), inner):
            raise ValueError(f"a matrix of {list(matrix.shape)} does not fit {list(maps.shape)}")
    addresses = [None if matrix is None else matrix.ctypes.data for matrix in matrices]
    sizes = (count, grid_height, grid_width, len(lines.rows), len(lines.columns))
    return _Parameters(*sizes, level, *addresses), [*kept, *matrices]


def _checked_numbers(numbers: _Numbers, count: int) -> _Numbers:
    numbers = np.ascontiguousarray(numbers, np.uint16)
    if numbers.shape != (count,):
        raise ValueError(f"numbers are {list(numbers.shape)} for {count} channels")
    return numbers


def _call(name: str, *arguments: Any) -> None:
    """Call a function of `refine.h`; arrays are passed by their addresses."""
    passed = [
        ctypes.c_void_p(one.ctypes.data) if isinstance(one, np.ndarray) else one
        for one in arguments
    ]
    code = getattr(load("_pixels"), f"pnp_refine_{name}")(*passed)
    check(code, f"{name.replace('_', ' ')} of the refinement")
