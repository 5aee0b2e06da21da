"""What every set of kernels offers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = Any  # of the set's own module: on the CPU NumPy's, on a GPU CuPy's


class Launch(Protocol):
    """What runs a kernel."""

    def __call__(self, kernel: str, threads: int, *arguments: Any) -> None:
        """Run it on at least one block, best on so many threads; arguments: arrays, NumPy scalars.

        Arrays must be C-contiguous.
        """
        ...


class Kernels(Protocol):
    """`reference`, whose docstrings define each kernel, and `CudaKernels`."""

    def normalize(self, pixels: Array, mean: np.ndarray, std: np.ndarray) -> Array:
        """uint8 [B, S, S, 3] -> float32 [B, 3, S, S]."""
        ...

    def blank_patches(self, pixels: Array, dropped: Array, patch: int) -> Array:
        """[B, 3, S, S], [B, P] -> [B, 3, S, S]."""
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
        """[C, p, p] -> [C, p, p]."""
        ...

    def background(self, maps: Array) -> Array:
        """[C, p, p] -> [2p - 1, 2p - 1]."""
        ...

    def resample(
        self, rows: np.ndarray, maps: Array, columns: np.ndarray, out: Array, levels: Array
    ) -> None:
        """[H, p], [C, p, p], [W, p] -> out [C, H, W], levels [C]."""
        ...

    def scale_channels(self, channels: Array, levels: Array, rounding: float) -> None:
        """[C, H, W], [C]; in place."""
        ...

    def softmax(self, channels: Array) -> Array:
        """[C, H, W] -> [C, H, W]."""
        ...

    def choose_labels(self, channels: Array, numbers: np.ndarray) -> Array:
        """[C, H, W], uint16 [C] -> uint16 [H, W]."""
        ...
