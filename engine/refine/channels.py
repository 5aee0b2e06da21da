"""Decide the channels of an image: a background or none, and the matrices that upsample."""

from __future__ import annotations

import math
from functools import lru_cache

from ...kernels.cpu.refine import line_matrices
from ...kernels.reference import Lines
from ..memory import require_memory
from ..settings import Settings

FEW_CLASSES = 3  # in Context-style sets, fewer named classes than this leave room for a background

# Measured peak of memory in bytes: for each pixel of the labels; and for each side, times its
# pixels and cells of the grid.
_LABEL_BYTES = 2
_SIDE_BYTES = 64


def has_background(classes: int, settings: Settings) -> bool:
    """Tell whether a background channel is added when so many classes are looked for."""
    if settings.background == "auto":
        return classes < FEW_CLASSES
    return settings.background == "always"


def lines(
    grid: tuple[int, int], size: tuple[int, int], settings: Settings, *, classes: int
) -> Lines:
    """Make the matrices that upsample and blur class maps; those of the last sizes are kept.

    Args:
        grid: rows and columns of patches, (gh, gw).
        size: height and width in pixels, (H, W).
        settings: blur and background.
        classes: number of classes that are looked for.
    """
    sigma = settings.blur * max(size)
    return _lines(grid, size, sigma, has_background(classes, settings))


@lru_cache(maxsize=16)
def _lines(grid: tuple[int, int], size: tuple[int, int], sigma: float, background: bool) -> Lines:
    return line_matrices(grid, size, sigma, background=background)


def require_memory_for(
    grid: tuple[int, int],
    size: tuple[int, int],
    full: tuple[int, int],
    maps: int,
    channels: int,
) -> None:
    """Check that refinement fits into the host's memory.

    Args:
        grid: rows and columns of patches, (gh, gw).
        size: height and width in pixels at which the image is refined.
        full: height and width of the image.
        maps: number of class maps.
        channels: number of channels of that size that are held at once; 0 where none is.

    Raises:
        InputError: it does not fit.
    """
    height, width = full
    sides = sum(cells * pixels for cells, pixels in zip(grid, size, strict=True))
    require_memory(
        height * width * _LABEL_BYTES + math.prod(size) * channels * 4 + sides * _SIDE_BYTES,
        f"{maps} classes on {width}x{height} pixels",
        "name fewer classes, or scale the image down",
    )
