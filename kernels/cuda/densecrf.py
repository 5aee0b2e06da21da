"""The dense CRF on a GPU: which kernels of `cuda/densecrf.cu` run, in what order, on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..interface import BILATERAL, GAUSSIAN, ITERATIONS, Array, Launch

_FREE = np.uint64(2**64 - 1)
_SMALLEST = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class _Lattice:
    """One kernel of the CRF; its weights include the norm and the compatibility.

    Attributes:
        vertices: with the zeroth, which stands for none.
        vertex: uint32 [points, corners].
        weight: float32 [points, corners].
        neighbor: uint32 [corners, vertices, 2].
    """

    vertices: int
    vertex: Array
    weight: Array
    neighbor: Array

    @property
    def corners(self) -> int:
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
    """Mean-field marginals of a fully connected CRF; what `kernels.densecrf` computes.

    Nothing but the number of vertices leaves the device. Sums come in no fixed order, so the last
    digits vary from run to run.

    Args:
        image: uint8 [H, W, 3], on the device.
        probabilities: float32 [C, H, W], on the device, at least 0 and finite (not checked).
        xp: the array module, CuPy.
        launch: runs the kernels.
        iterations: of the mean field.
        gaussian_sxy: standard deviation of the smoothness kernel, in pixels.
        gaussian_compat: its weight; 0 leaves the kernel out.
        bilateral_sxy: standard deviation of the appearance kernel, in pixels.
        bilateral_srgb: its standard deviation in color, in levels of 0 to 255.
        bilateral_compat: its weight; 0 leaves the kernel out.

    Returns:
        float32 [C, H, W], on the device.

    Raises:
        ValueError: a deviation is so small that vertices outgrow 64-bit keys.
    """
    labels, height, width = probabilities.shape
    points = height * width
    run = _Run(xp, launch, points, labels)
    logits = xp.log(xp.maximum(probabilities.reshape(labels, points).T, _SMALLEST))
    logits = xp.ascontiguousarray(logits, dtype=np.float32)
    near, alike = [gaussian_sxy] * 2, [bilateral_sxy] * 2 + [bilateral_srgb] * 3
    lattices = [
        run.lattice(image, deviations, compat)
        for deviations, compat in ((near, gaussian_compat), (alike, bilateral_compat))
        if compat
    ]
    likely = run.slice(logits, [], [], normalize=True)
    for _ in range(iterations):
        values = [run.filter(lattice, likely) for lattice in lattices]
        likely = run.slice(logits, lattices, values, normalize=True)
    return xp.ascontiguousarray(likely.T).reshape(labels, height, width)


@dataclass(frozen=True)
class _Run:
    xp: Any
    launch: Launch
    points: int
    labels: int

    def lattice(self, image: Array, deviations: list[float], compat: float) -> _Lattice:
        xp = self.xp
        dimensions = len(deviations)
        corners = dimensions + 1
        height, width = image.shape[:2]
        scale = _scale(dimensions)
        deviation = np.array(deviations, np.float32)
        reach = scale / deviation * np.array([width, height, 255, 255, 255][:dimensions])
        units, bias = _packing(reach)
        slots = 1 << (2 * self.points * corners - 1).bit_length()  # at most half are taken
        if slots > 2**32:
            raise ValueError(f"{self.points} pixels are too many for this CRF: use the CPU's")
        mask = np.uint32(slots - 1)
        table = xp.full(slots, _FREE, np.uint64)
        slot = xp.empty((self.points, corners), np.uint32)
        weight = xp.empty((self.points, corners), np.float32)
        self.launch(
            f"crf_place{dimensions}",
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
        taken = table != _FREE
        number = xp.cumsum(taken, dtype=np.uint32)
        keys = xp.concatenate([xp.zeros(1, np.uint64), table[taken]])
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
        """Weights times the symmetric norm, so that a filter gives the whole message."""
        alone = _Run(self.xp, self.launch, self.points, 1)
        ones = self.xp.ones((self.points, 1), np.float32)
        nothing = self.xp.zeros((self.points, 1), np.float32)
        mass = alone.slice(nothing, [lattice], [alone.filter(lattice, ones)], normalize=False)
        gain = np.float32(1 / (1 + 2.0 ** -(lattice.corners - 1)))
        scale = np.sqrt(np.float32(compat) * gain) / self.xp.sqrt(mass * gain + np.float32(1e-20))
        weight = (lattice.weight * scale).astype(np.float32)
        return _Lattice(lattice.vertices, lattice.vertex, weight, lattice.neighbor)

    def filter(self, lattice: _Lattice, likely: Array) -> Array:
        """Splat and blur, float32 [vertices, labels]."""
        value = self.xp.zeros((lattice.vertices, self.labels), np.float32)
        blurred = self.xp.empty_like(value)
        self.launch(
            "crf_splat",
            likely.size,
            likely,
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
        """The messages of up to two lattices added to `start`, float32 [points, labels]."""
        said: list[Any] = []
        for lattice, value in zip(lattices, values, strict=True):
            said += [value, lattice.vertex, lattice.weight, np.int32(lattice.corners)]
        silent = [start, start, start, np.int32(0)]  # no corners: its arrays are not read
        out = self.xp.empty_like(start)
        self.launch(
            "crf_slice",
            self.points,
            start,
            np.int64(self.points),
            np.int32(self.labels),
            *said,
            *silent * (2 - len(lattices)),
            np.int32(normalize),
            out,
        )
        return out


def _scale(dimensions: int) -> np.ndarray:
    """What makes deviation 1 the spread of the lattice's blur, float32 [dimensions]."""
    number = np.arange(dimensions)
    spread = np.float32(np.sqrt(2 / 3) * (dimensions + 1))
    return (np.float64(spread) / np.sqrt((number + 1) * (number + 2))).astype(np.float32)


def _packing(reach: np.ndarray) -> tuple[list[int], int]:
    """What 1 in each coordinate of a vertex is in its key, and what makes coordinates positive.

    Args:
        reach: the largest value of each feature, in lattice units.
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
