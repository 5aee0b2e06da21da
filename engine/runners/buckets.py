"""Graphs of fixed shapes, fed with any: CUDA graphs and TensorRT want every shape known beforehand.

A bucket is one such shape. The rows of a call are padded to the smallest length, of captions or of
what is kept of images, for which there are buckets. They are split by this rule: as long as some
are left, the next bucket is the smallest that holds them all, if they fill three quarters of it or
no bucket is smaller; else the largest that they fill. So every row is computed once, only the last
bucket is padded, and where there is a bucket of one row, rows computed are at most 4/3 of the rows
asked for.

Padding is zeros: images of the mean color, and tokens that attention does not see. All of it is
finite, and no row looks at another, so what was asked for does not depend on it.
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
    """Queues a graph on the device's stream, from arrays to arrays that stay where they are."""

    @property
    def captured(self) -> bool:
        """Whether it replays a CUDA graph."""
        ...

    def __call__(self) -> None:
        """Queue it."""
        ...


Bind = Callable[[int, dict[str, Array], dict[str, Array]], Step]
"""Of the index of a profile, with arrays for its inputs and for its outputs."""


class Part(NamedTuple):
    """Rows of a call, and the index of the profile that takes them."""

    rows: slice
    profile: int


def split(rows: int, sizes: Sequence[int]) -> list[int]:
    """The buckets that hold so many rows, by the rule above.

    Args:
        rows: at least 1.
        sizes: of the buckets there are, ascending.
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
    """The parts of a call.

    Args:
        signature: of the graph.
        sizes: of the call; its rows are no longer than those of the longest profile.
        profiles: the buckets that there are.
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
    """Device memory for what runs by turns, one at a time, so that one block can serve it all."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._blocks: dict[str, list[Array]] = defaultdict(list)

    def take(self, use: str, size: int) -> Array:
        """At least so many bytes, for a use of which there is one at a time; they stay in place."""
        for block in self._blocks[use]:
            if block.nbytes >= size:
                return block
        self._blocks[use].append(self._xp.empty(size, np.uint8))
        return self._blocks[use][-1]

    def array(self, name: str, tensor: Tensor, sizes: Profile) -> Array:
        """An array for an input or output."""
        shape = tensor.sized(sizes)
        size = prod(shape) * np.dtype(tensor.dtype).itemsize
        return self.take(name, size)[:size].view(tensor.dtype).reshape(shape)


@dataclass(frozen=True)
class _Bucket:
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    step: Step


class Buckets:
    """A graph that has fixed shapes, and takes any batch. Threads may share it.

    Args:
        device: where it runs; `device.on_stream()` is in force when it does.
        signature: of the graph.
        profiles: the shapes; each batch with each length, and of as many images as captions as
            well as of one.
        bind: makes the step of a profile, when it is first needed.
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
        """Length of the longest row that fits; 0 where all have one."""
        return max(map(self._signature.length, self._profiles))

    @property
    def captured(self) -> list[tuple[Profile, bool]]:
        """The shapes that ran so far, and whether a CUDA graph of each is replayed."""
        return [(self._profiles[i], one.step.captured) for i, one in self._buckets.items()]

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Outputs by name, in arrays of their own; see `Runner.run`.

        Raises:
            ExecutionError: the inputs do not fit together.
        """
        sizes = self._signature.sizes(feeds)
        found = {
            name: self._device.xp.empty(tensor.sized(sizes), tensor.dtype)
            for name, tensor in self._signature.outputs.items()
            if name in outputs
        }
        with self._lock:  # of what uses the buckets' arrays
            for part in plan(self._signature, sizes, self._profiles):
                bucket = self._bucket(part.profile)
                for name, array in bucket.inputs.items():
                    whole = feeds[name]  # one image, that all captions share, is in every part
                    tensor = self._signature.inputs[name]
                    shared = len(whole) == 1 or not self._has_rows(tensor)
                    _fill(array, whole if shared else whole[part.rows])
                bucket.step()
                for name, array in found.items():
                    tensor = self._signature.outputs[name]
                    own = array[part.rows] if self._has_rows(tensor) else array
                    _take(own, bucket.outputs[name])
        return found

    def close(self) -> None:
        """Free the steps and the arrays; nothing of them may be running."""
        self._buckets.clear()
        self.blocks = Blocks(self._device.xp)

    def _has_rows(self, tensor: Tensor) -> bool:
        """Whether its first dimension counts the rows, or what each of them may have."""
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
