"""Run graphs of fixed shapes on any batch, as CUDA graphs and TensorRT need every shape beforehand.

A bucket is one such shape. Rows are padded to the smallest length that has buckets, and split over
buckets of that length by a rule. The next bucket is the smallest that holds all rows that are left,
if they fill three quarters of it or no bucket is smaller. Otherwise it is the largest bucket that
the rows fill. So every row is computed once, and only the last bucket is padded. If there is a
bucket of one row, the rows computed are at most 4/3 of the rows given.

Padding is zeros: images of the mean color, and tokens that attention does not see. No row depends
on another, so the results do not depend on padding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..device import Array, Device
from ..model.signature import Profile, Signature, Tensor

FILLED = 3 / 4


class Step(Protocol):
    """Queue a graph on the device's stream, from fixed arrays to fixed arrays."""

    @property
    def captured(self) -> bool:
        """Whether the step replays a CUDA graph."""
        ...

    def __call__(self) -> None:
        """Queue the graph."""
        ...


Bind = Callable[[int, dict[str, Array], dict[str, Array]], Step]
"""Make the step of a profile, from its index and the arrays for its inputs and outputs."""


class Part(NamedTuple):
    """Rows of a call, and the index of the profile that takes these rows."""

    rows: slice
    profile: int


def split(rows: int, sizes: Sequence[int]) -> list[int]:
    """Choose the buckets for so many rows, by the rule of this module.

    Args:
        rows: number of rows, at least 1.
        sizes: rows of each bucket that can be chosen, ascending.
    """
    chosen: list[int] = []
    while rows > 0:
        enough = [size for size in sizes if size >= rows]
        if enough and (rows >= FILLED * enough[0] or enough[0] == sizes[0]):
            chosen.append(enough[0])
        else:
            chosen.append(max(size for size in sizes if size <= rows))
        rows -= chosen[-1]
    return chosen


def plan(signature: Signature, sizes: Profile, profiles: Sequence[Profile]) -> list[Part]:
    """Split a call into parts, each for one profile.

    Args:
        signature: signature of the graph.
        sizes: sizes of the call; no row may be longer than the longest profile.
        profiles: shapes of the buckets.
    """
    rows, shared = signature.dimension("rows"), signature.dimension("shared")
    lengths = list(map(signature.length, profiles))
    padded = min(size for size in lengths if size >= signature.length(sizes))
    if rows is None:
        return [Part(slice(None), lengths.index(padded))]
    fitting = {
        profile[rows]: index
        for index, profile in enumerate(profiles)
        if lengths[index] == padded
        and (not shared or profile[shared] == (1 if sizes[shared] == 1 else profile[rows]))
    }
    parts: list[Part] = []
    start = 0
    for size in split(sizes[rows], sorted(fitting)):
        stop = min(start + size, sizes[rows])
        parts.append(Part(slice(start, stop), fitting[size]))
        start = stop
    return parts


class Blocks:
    """Device memory that is shared by buckets, as only one of them runs at a time."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._blocks: dict[str, list[Array]] = defaultdict(list)

    def take(self, use: str, size: int) -> Array:
        """Return a block of at least `size` bytes for a use; it stays in place."""
        for block in self._blocks[use]:
            if block.nbytes >= size:
                return block
        self._blocks[use].append(self._xp.empty(size, np.uint8))
        return self._blocks[use][-1]

    def array(self, name: str, tensor: Tensor, sizes: Profile) -> Array:
        """Return an array for an input or output, in a block of its name."""
        shape = tensor.sized(sizes)
        size = prod(shape) * np.dtype(tensor.dtype).itemsize
        return self.take(name, size)[:size].view(tensor.dtype).reshape(shape)


@dataclass(frozen=True)
class _Bucket:
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    step: Step


class Buckets:
    """A graph of fixed shapes that takes any batch. Threads may share it.

    Args:
        device: device of the graph; `device.on_stream()` is in force when the graph runs.
        signature: signature of the graph.
        profiles: shapes of the buckets: each batch with each length, with as many shared items as
            rows and with one.
        bind: function that makes the step of a profile, when it is first needed.
    """

    def __init__(
        self, device: Device, signature: Signature, profiles: Sequence[Profile], bind: Bind
    ) -> None:
        self.blocks: Blocks = Blocks(device.xp)
        self._device = device
        self._signature = signature
        self._profiles = profiles
        self._bind = bind
        self._buckets: dict[int, _Bucket] = {}
        self._lock = Lock()

    @property
    def longest(self) -> int:
        """Length of the longest row that fits; 0 where rows have no length."""
        return max(map(self._signature.length, self._profiles))

    @property
    def captured(self) -> list[tuple[Profile, bool]]:
        """Shapes that ran so far, and whether each replays a CUDA graph."""
        return [(self._profiles[i], one.step.captured) for i, one in self._buckets.items()]

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph; return new arrays by the names of the outputs. See `Runner.run`.

        Raises:
            ExecutionError: the shapes of the inputs do not fit together.
        """
        sizes = self._signature.sizes(feeds)
        results = {
            name: self._device.xp.empty(tensor.sized(sizes), tensor.dtype)
            for name, tensor in self._signature.outputs.items()
            if name in outputs
        }
        with self._lock:  # one call at a time uses the buckets' arrays
            for part in plan(self._signature, sizes, self._profiles):
                bucket = self._bucket(part.profile)
                for name, array in bucket.inputs.items():
                    whole = feeds[name]  # one image, that all captions share, is in every part
                    tensor = self._signature.inputs[name]
                    shared = len(whole) == 1 or not self._has_rows(tensor)
                    _fill(array, whole if shared else whole[part.rows])
                bucket.step()
                for name, array in results.items():
                    tensor = self._signature.outputs[name]
                    rows = array[part.rows] if self._has_rows(tensor) else array
                    _take(rows, bucket.outputs[name])
        return results

    def close(self) -> None:
        """Free the steps and the arrays; none of them may be in use."""
        self._buckets.clear()
        self.blocks = Blocks(self._device.xp)

    def _has_rows(self, tensor: Tensor) -> bool:
        """Tell whether the first dimension of a tensor counts rows or shared items."""
        first = tensor.shape[0]
        roles = self._signature.roles
        return isinstance(first, str) and roles.get(first) in ("rows", "shared")

    def _bucket(self, index: int) -> _Bucket:
        if index not in self._buckets:
            inputs, outputs = (
                {
                    name: self.blocks.array(name, tensor, self._profiles[index])
                    for name, tensor in tensors.items()
                }
                for tensors in (self._signature.inputs, self._signature.outputs)
            )
            self._buckets[index] = _Bucket(inputs, outputs, self._bind(index, inputs, outputs))
        return self._buckets[index]


def _fill(bucket: Array, values: Array) -> None:
    if values.shape != bucket.shape:
        bucket.fill(0)
    bucket[_corner(values)] = values


def _take(values: Array, bucket: Array) -> None:
    values[...] = bucket[_corner(values)]


def _corner(array: Array) -> tuple[slice, ...]:
    return tuple(slice(size) for size in array.shape)
