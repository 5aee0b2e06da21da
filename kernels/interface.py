"""Defines the protocol that the kernels of every device implement."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .reference import Lines

Array = Any  # np.ndarray on the CPU, cupy.ndarray on a GPU

# Defaults of the dense CRF. sxy is a standard deviation in pixels, srgb one in levels of 0 to 255;
# compat is the weight of a kernel.
ITERATIONS = 10
GAUSSIAN = {"sxy": 3, "compat": 7}
BILATERAL = {"sxy": 50, "srgb": 5, "compat": 10}


class Launch(Protocol):
    """A function that runs a CUDA kernel on the current device."""

    def __call__(self, kernel: str, threads: int, *arguments: Any) -> None:
        """Run a kernel.

        Args:
            kernel: name of the kernel.
            threads: number of threads that the kernel has work for. Fewer do the same work, and at
                least one block runs.
            arguments: arguments of the kernel: C-contiguous arrays and NumPy scalars.
        """
        ...


class Kernels(Protocol):
    """The kernels of a device: `cpu.kernels` on the CPU, `CudaKernels` on a GPU.

    `reference` defines what each kernel computes, and its arguments. B images, M captions, T
    tokens, P patches on a grid of gh x gw, C classes, H x W pixels. N channels: the background,
    where there is one, and then one for each class map.
    """

    def normalize(
        self, pixels: Array, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32]
    ) -> Array:
        """Normalize pixels, uint8 [B, H, W, 3] -> float32 [B, 3, H, W]."""
        ...

    def blank_patches(self, pixels: Array, dropped: Array, patch: int) -> Array:
        """Zero the pixels of dropped patches, [B, 3, H, W] -> [B, 3, H, W]."""
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
        """Add salience [N, T, P] to the total; return the scores of patches, float32 [B, P]."""
        ...

    def drop_salient(self, scores: Array, dropped: Array, count: int | None) -> Array:
        """Drop the patches of the highest scores; return all dropped patches, bool [B, P]."""
        ...

    def class_maps(self, total: Array, members: Array, first_member: Array, summed: Array) -> Array:
        """Average salience over the tokens of each class, [N, T, P] -> [C, P]."""
        ...

    def channels(self, maps: Array, lines: Lines, level: float) -> Array:
        """Make channels of class maps, each scaled to [0, 1]: [C, gh, gw] -> [N, H, W]."""
        ...

    def probabilities(self, maps: Array, lines: Lines, level: float) -> Array:
        """Return the softmax over the channels of class maps: [C, gh, gw] -> [N, H, W]."""
        ...

    def labels(
        self, maps: Array, lines: Lines, level: float, numbers: npt.NDArray[np.uint16]
    ) -> Array:
        """Label each pixel with the number of its largest channel: [C, gh, gw] -> uint16 [H, W]."""
        ...

    def enlarged_labels(
        self, probabilities: Array, numbers: npt.NDArray[np.uint16], height: int, width: int
    ) -> Array:
        """Enlarge probabilities [N, h, w] bilinearly, and label each pixel: uint16 [H, W]."""
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
        """Compute the marginals of the dense CRF, float32 [C, H, W] -> float32 [C, H, W].

        `cpu.densecrf` defines the result and the arguments. `threads` and `memory` have no effect
        on a GPU.
        """
        ...
