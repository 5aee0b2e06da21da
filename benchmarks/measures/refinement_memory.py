"""Memory of the refinement on a GPU: the engine's code runs on arrays that are only counted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from pnp_ovss.engine.refine import refine
from pnp_ovss.engine.settings import Settings
from pnp_ovss.kernels import densecrf
from pnp_ovss.kernels.cpu.densecrf import Profile

from ..harness.counted import CountingArrays

_GRID = 21  # of class maps; their size hardly counts


def lattice_vertices(image: Image.Image) -> dict[int, int]:
    """Vertices of an image's two lattices in the dense CRF, by their number of dimensions."""
    pixels = np.asarray(image)
    likely = np.ones((1, *pixels.shape[:2]), np.float32)
    near, alike = Profile(), Profile()
    densecrf(pixels, likely, iterations=0, bilateral_compat=0, profile=near)
    densecrf(pixels, likely, iterations=0, gaussian_compat=0, profile=alike)
    return {2: near.vertices, 5: alike.vertices}


def refinement_memory(width: int, height: int, labels: int, vertices: Mapping[int, int]) -> int:
    """Count the most bytes of arrays on a GPU while an image is refined.

    Args:
        width: of the image.
        height: of the image.
        labels: classes, and the background.
        vertices: see `lattice_vertices`.
    """
    image = Image.new("RGB", (width, height))
    arrays = CountingArrays(vertices)
    maps = np.zeros((labels - 1, _GRID, _GRID), np.float32)
    refine(image, maps, Settings(background="always"), device=arrays.device())
    return arrays.peak
