"""Runs the dense CRF on a GPU: launches the kernels of `cuda/densecrf.cu` in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..interface import BILATERAL, GAUSSIAN, ITERATIONS, Array, Launch

_EMPTY = np.uint64(2**64 - 1)  # key of a free slot; EMPTY in densecrf.cu
_SMALLEST = np.finfo(np.float32).tiny  # probabilities are at least this, before the logarithm


@dataclass(frozen=True)
class _Lattice:
    """The permutohedral lattice of one kernel of the CRF.

    Attributes:
        vertices: number of vertices, vertex 0 included, which stands for "none".
        vertex: vertices of the simplex that each point lies in, uint32 [points, corners].
        weight: barycentric weights, times norm and compatibility, float32 [points, corners].
        neighbor: the two neighbors along each direction, uint32 [corners, vertices, 2].
    """

    vertices: int
    vertex: Array
    weight: Array
    neighbor: Array

    @property
    def corners(self) -> int:
        """Number of vertices of a simplex."""
        return self.vertex.shape[1]


def densecrf(
    image: Array,
    probabilities: Array,
    *,
    xp: Any,
    launch: Launch,
    iterations: int = ITERATIONS,
    gaussian_sxy: float = GAUSSIAN["sxy"],
    gaussian_compat: float = GAUSSIAN["compat"],
    bilateral_sxy: float = BILATERAL["sxy"],
    bilateral_srgb: float = BILATERAL["srgb"],
    bilateral_compat: float = BILATERAL["compat"],
) -> Array:
    """Compute the marginals of a fully connected CRF on a GPU, as `cpu.densecrf` does on a CPU.

    Only the number of vertices leaves the GPU. Sums come in no fixed order, so the last digits of
    the marginals vary from run to run.

    Args:
        image: image on the GPU, uint8 [H, W, 3].
        probabilities: unary probabilities on the GPU, float32 [C, H, W]. They must be finite and at
            least 0, which is not checked.
        xp: array module, CuPy.
        launch: function that runs a kernel.
        iterations: number of mean-field iterations.
        gaussian_sxy: standard deviation of the smoothness kernel, in pixels.
        gaussian_compat: weight of the smoothness kernel; 0 leaves the kernel out.
        bilateral_sxy: spatial standard deviation of the appearance kernel, in pixels.
        bilateral_srgb: color standard deviation of the appearance kernel, in levels of 0 to 255.
        bilateral_compat: weight of the appearance kernel; 0 leaves the kernel out.

    Returns:
        The marginals on the GPU, float32 [C, H, W].

    Raises:
        ValueError: a deviation is so small that vertices outgrow 64-bit keys, or the image is too
            large for the hash table.
    """
    labels, height, width = probabilities.shape
    points = height * width
    steps = _Steps(xp, launch, points, labels)
    logits = xp.log(xp.maximum(probabilities.reshape(labels, points).T, _SMALLEST))
    logits = xp.ascontiguousarray(logits, dtype=np.float32)
    gaussian = [gaussian_sxy] * 2
    bilateral = [bilateral_sxy] * 2 + [bilateral_srgb] * 3
    lattices = [
        steps.lattice(image, deviations, compat)
        for deviations, compat in ((gaussian, gaussian_compat), (bilateral, bilateral_compat))
        if compat
    ]
    distribution = steps.slice(logits, [], [], normalize=True)
    for _ in range(iterations):
        values = [steps.filter(lattice, distribution) for lattice in lattices]
        distribution = steps.slice(logits, lattices, values, normalize=True)
    return xp.ascontiguousarray(distribution.T).reshape(labels, height, width)


@dataclass(frozen=True)
class _Steps:
    """The steps of the CRF's inference, for a number of points (pixels) and labels."""

    xp: Any
    launch: Launch
    points: int
    labels: int

    def lattice(self, image: Array, deviations: list[float], compat: float) -> _Lattice:
        """Build the lattice over positions (2 deviations), or positions and colors (5)."""
        xp = self.xp
        dimensions = len(deviations)
        corners = dimensions + 1
        height, width = image.shape[:2]
        scale = _scale(dimensions)
        deviation = np.array(deviations, np.float32)
        reach = scale / deviation * np.array([width, height, 255, 255, 255][:dimensions])
        units, bias = _packing(reach)
        slots = 1 << (2 * self.points * corners - 1).bit_length()  # at most half are used
        if slots > 2**32:
            raise ValueError(f"{self.points} pixels are too many for this CRF: use the CPU's")
        mask = np.uint32(slots - 1)
        table = xp.full(slots, _EMPTY, np.uint64)
        slot = xp.empty((self.points, corners), np.uint32)
        weight = xp.empty((self.points, corners), np.float32)
        self.launch(
            f"crf_locate{dimensions}",
            self.points,
            image,
            np.int32(width),
            np.int64(self.points),
            xp.asarray(scale),
            xp.asarray(deviation),
            xp.asarray(np.array([*units, bias], np.uint64)),
            table,
            mask,
            slot,
            weight,
        )
        used = table != _EMPTY
        number = xp.cumsum(used, dtype=np.uint32)
        keys = xp.concatenate([xp.zeros(1, np.uint64), table[used]])
        vertices = len(keys)
        steps = [(dimensions + 1) * unit - sum(units) for unit in [*units, 0]]
        neighbor = xp.empty((corners, vertices, 2), np.uint32)
        self.launch(
            "crf_neighbors",
            vertices * corners,
            keys,
            np.int64(vertices),
            xp.asarray(np.array([step % 2**64 for step in steps], np.uint64)),
            np.int32(corners),
            table,
            number,
            mask,
            neighbor,
        )
        plain = _Lattice(vertices, number[slot], weight, neighbor)
        return self._normalized(plain, compat)

    def _normalized(self, lattice: _Lattice, compat: float) -> _Lattice:
        """Multiply the weights by symmetric norm and compatibility: a filter gives the message."""
        single = _Steps(self.xp, self.launch, self.points, 1)  # a single label
        ones = self.xp.ones((self.points, 1), np.float32)
        zeros = self.xp.zeros((self.points, 1), np.float32)
        mass = single.slice(zeros, [lattice], [single.filter(lattice, ones)], normalize=False)
        gain = np.float32(1 / (1 + 2.0 ** -(lattice.corners - 1)))
        scale = np.sqrt(np.float32(compat) * gain) / self.xp.sqrt(mass * gain + np.float32(1e-20))
        weight = (lattice.weight * scale).astype(np.float32)
        return _Lattice(lattice.vertices, lattice.vertex, weight, lattice.neighbor)

    def filter(self, lattice: _Lattice, distribution: Array) -> Array:
        """Splat a distribution [points, labels] and blur it, float32 [vertices, labels]."""
        value = self.xp.zeros((lattice.vertices, self.labels), np.float32)
        blurred = self.xp.empty_like(value)
        self.launch(
            "crf_splat",
            distribution.size,
            distribution,
            np.int64(self.points),
            np.int32(self.labels),
            lattice.vertex,
            lattice.weight,
            np.int32(lattice.corners),
            value,
        )
        for neighbor in lattice.neighbor:
            self.launch(
                "crf_blur",
                value.size,
                value,
                neighbor,
                np.int64(lattice.vertices),
                np.int32(self.labels),
                blurred,
            )
            value, blurred = blurred, value
        return value

    def slice(
        self, start: Array, lattices: list[_Lattice], values: list[Array], *, normalize: bool
    ) -> Array:
        """Add the messages of up to two lattices to `start`, float32 [points, labels]."""
        messages: list[Any] = []
        for lattice, value in zip(lattices, values, strict=True):
            messages += [value, lattice.vertex, lattice.weight, np.int32(lattice.corners)]
        no_message = [start, start, start, np.int32(0)]  # no corners: the arrays are not read
        out = self.xp.empty_like(start)
        self.launch(
            "crf_slice",
            self.points,
            start,
            np.int64(self.points),
            np.int32(self.labels),
            *messages,
            *no_message * (2 - len(lattices)),
            np.int32(normalize),
            out,
        )
        return out


def _scale(dimensions: int) -> np.ndarray:
    """Return the factors that make deviation 1 the lattice blur's, float32 [dimensions]."""
    number = np.arange(dimensions)
    spread = np.float32(np.sqrt(2 / 3) * (dimensions + 1))
    return (np.float64(spread) / np.sqrt((number + 1) * (number + 2))).astype(np.float32)


def _packing(reach: np.ndarray) -> tuple[list[int], int]:
    """Return what 1 in each coordinate adds to a vertex's key, and what makes keys positive.

    Args:
        reach: largest value of each feature, in lattice units.

    Raises:
        ValueError: a deviation is so small that vertices outgrow 64-bit keys.
    """
    margin = 4 * (len(reach) + 1)
    farthest = [
        max(i * reach[i - 1] if i else 0, reach[i:].sum()) + margin for i in range(len(reach))
    ]
    bits = [int(np.ceil(np.log2(far))) + 1 for far in farthest]
    if sum(bits) > 63 or max(farthest) >= 2**22:
        raise ValueError("a deviation is so small that vertices outgrow 64-bit keys: use the CPU's")
    units = [1 << sum(bits[:i]) for i in range(len(bits))]
    return units, sum(unit << (bit - 1) for unit, bit in zip(units, bits, strict=True))
