"""What every set of kernels offers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = Any  # of the set's own module: on the CPU NumPy's, on a GPU CuPy's

# The dense CRF's, unless it is told otherwise: its iterations, and of its two kernels the standard
# deviations (sxy in pixels, srgb in levels of 0 to 255) and the weight.
ITERATIONS = 10
GAUSSIAN = {"sxy": 3, "compat": 7}
BILATERAL = {"sxy": 50, "srgb": 5, "compat": 10}


class Launch(Protocol):
    """What runs a kernel."""

    def __call__(self, kernel: str, threads: int, *arguments: Any) -> None:
        """Run it on at least one block, best on so many threads; arguments: arrays, NumPy scalars.

        Arrays must be C-contiguous.
        """
        ...


class Kernels(Protocol):
    """`cpu.kernels` and `CudaKernels`; the docstrings of `reference` define each kernel."""

    def normalize(
        self, pixels: Array, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32]
    ) -> Array:
        """uint8 [B, H, W, 3] -> float32 [B, 3, H, W]."""
        ...

    def blank_patches(self, pixels: Array, dropped: Array, patch: int) -> Array:
        """[B, 3, H, W], [B, P] -> [B, 3, H, W]."""
        ...

    def accumulate(
        self,
        total: Array,
        salience: Array,
        dropped: Array,
        class_token: Array,
        first_caption: Array,
        weight: float,
    ) -> Array:
        """Adds salience [N, T, P] to total; returns the scores of patches, [B, P]."""
        ...

    def drop_salient(self, scores: Array, dropped: Array, count: int | None) -> Array:
        """[B, P], [B, P] -> [B, P]."""
        ...

    def class_maps(self, total: Array, members: Array, first_member: Array, summed: Array) -> Array:
        """[N, T, P] -> [C, P]."""
        ...

    def threshold(self, maps: Array, level: float) -> Array:
        """[C, gh, gw] -> [C, gh, gw]."""
        ...

    def background(self, maps: Array) -> Array:
        """[C, gh, gw] -> [2gh - 1, 2gw - 1]."""
        ...

    def resample(
        self,
        rows: npt.NDArray[np.float64],
        maps: Array,
        columns: npt.NDArray[np.float64],
        out: Array,
        levels: Array,
    ) -> None:
        """[H, gh], [C, gh, gw], [W, gw] -> out [C, H, W], levels [C]."""
        ...

    def scale_channels(self, channels: Array, levels: Array, rounding: float) -> None:
        """[C, H, W], [C]; in place."""
        ...

    def softmax(self, channels: Array) -> Array:
        """[C, H, W] -> [C, H, W]."""
        ...

    def choose_labels(self, channels: Array, numbers: npt.NDArray[np.uint16]) -> Array:
        """[C, H, W], uint16 [C] -> uint16 [H, W]."""
        ...

    def densecrf(
        self,
        image: Array,
        probabilities: Array,
        *,
        iterations: int = ITERATIONS,
        gaussian_sxy: float = GAUSSIAN["sxy"],
        gaussian_compat: float = GAUSSIAN["compat"],
        bilateral_sxy: float = BILATERAL["sxy"],
        bilateral_srgb: float = BILATERAL["srgb"],
        bilateral_compat: float = BILATERAL["compat"],
        threads: int = 1,
        memory: int = 0,
    ) -> Array:
        """uint8 [H, W, 3], float32 [C, H, W] -> float32 [C, H, W]; `cpu.densecrf` defines it.

        On a GPU `threads` and `memory` have no effect.
        """
        ...
