"""Arrays that have shapes, dtypes and lifetimes but no memory: what code allocates on a GPU.

`CountingArrays` stands for the array module, CuPy, and its `launch` for CuPy's of a kernel. The
engine's code runs on it as it is; only values are missing, so what depends on them is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pnp_ovss.engine.device import Device
from pnp_ovss.kernels.cuda.kernels import CudaKernels

Shape = int | Sequence[int]


class CountingArrays:
    """An array module that counts bytes.

    Args:
        vertices: of the lattices of a dense CRF, by their number of dimensions, 2 and 5.

    Attributes:
        live: bytes of the arrays that are referred to.
        peak: the most that `live` has been.
    """

    def __init__(self, vertices: Mapping[int, int]) -> None:
        self.live = self.peak = 0
        self._vertices = vertices
        self._selected = 0

    def device(self) -> Device:
        """Make a GPU whose arrays these are."""
        return Device("cuda:0", None, self, CudaKernels(self, self.launch), None, "")

    def launch(self, kernel: str, threads: int, *arguments: Any) -> None:
        """Run nothing; a mask selects the vertices of the lattice that was placed last."""
        if kernel.startswith("crf_locate"):
            self._selected = self._vertices[int(kernel[-1])]

    def empty(self, shape: Shape, dtype: Any) -> CountedArray:
        """Allocate an array."""
        layout = np.broadcast_to(np.zeros((), dtype), shape)
        return CountedArray(layout, _Block(self, layout.nbytes))

    zeros = ones = empty

    def full(self, shape: Shape, value: Any, dtype: Any) -> CountedArray:
        """Allocate an array, whatever its value."""
        return self.empty(shape, dtype)

    def empty_like(self, array: CountedArray) -> CountedArray:
        """Allocate an array of the same shape and dtype."""
        return self.empty(array.shape, array.dtype)

    def asarray(self, array: Any) -> Any:
        """Allocate a copy of an array of the host; an array of the device is itself."""
        return array if isinstance(array, CountedArray) else self.empty(array.shape, array.dtype)

    def ascontiguousarray(self, array: CountedArray, dtype: Any = None) -> CountedArray:
        """Allocate a copy, unless the array is contiguous and of that dtype."""
        dtype = np.dtype(dtype or array.dtype)
        same = array.contiguous and array.dtype == dtype
        return array if same else self.empty(array.shape, dtype)

    def asnumpy(self, array: CountedArray) -> np.ndarray:
        """Make an array of the host, with no values."""
        return np.empty(array.shape, array.dtype)

    def cumsum(self, array: CountedArray, dtype: Any) -> CountedArray:
        """Allocate the sums of an array of one dimension."""
        return self.empty(array.shape, dtype)

    def concatenate(self, arrays: Sequence[CountedArray]) -> CountedArray:
        """Allocate arrays of one dimension, one after the other."""
        return self.empty(sum(map(len, arrays)), arrays[0].dtype)

    def each(self, *operands: Any, dtype: Any = None) -> CountedArray:
        """Allocate the result of an operation on each element."""
        layouts = [one.layout if isinstance(one, CountedArray) else one for one in operands]
        made = self.empty(np.broadcast_shapes(*map(np.shape, layouts)), np.result_type(*layouts))
        if dtype is not None:
            made = self.empty(made.shape, dtype)
        made.contiguous = all(o.contiguous for o in operands if isinstance(o, CountedArray))
        return made

    log = sqrt = maximum = each

    def select(self, array: CountedArray, mask: CountedArray) -> CountedArray:
        """Allocate what a mask selects, and until then, as CuPy does, a scan of the mask."""
        scan = self.empty(mask.shape, np.int32)
        selected = self.empty(self._selected, array.dtype)
        del scan
        return selected


@dataclass
class _Block:
    """Memory of an array and of all views of it."""

    module: CountingArrays
    size: int

    def __post_init__(self) -> None:
        self.module.live += self.size
        self.module.peak = max(self.module.peak, self.module.live)

    def __del__(self) -> None:
        self.module.live -= self.size


@dataclass(eq=False)
class CountedArray:
    """An array of `CountingArrays`.

    Attributes:
        layout: its shape and dtype, as NumPy's array of one value.
        block: its memory.
        contiguous: whether its elements are in C order.
    """

    layout: np.ndarray
    block: _Block = field(repr=False)
    contiguous: bool = True
    __array_ufunc__ = None  # NumPy's scalars leave operators to it, instead of taking it apart

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "dtype", "size", "ndim", "nbytes"):
            return getattr(self.layout, name)
        raise AttributeError(name)

    @property
    def T(self) -> CountedArray:  # noqa: N802
        """A view with its dimensions in reverse."""
        return CountedArray(self.layout.T, self.block, contiguous=max(self.shape) == self.size)

    def reshape(self, *shape: int) -> CountedArray:
        """View the array in another shape; it must be contiguous."""
        assert self.contiguous
        return CountedArray(self.layout.reshape(*shape), self.block)

    def astype(self, dtype: Any) -> CountedArray:
        """Allocate a copy of another dtype."""
        return self.block.module.empty(self.shape, dtype)

    def __len__(self) -> int:
        return len(self.layout)

    def __getitem__(self, key: Any) -> CountedArray:
        if not isinstance(key, CountedArray):
            return CountedArray(self.layout[key], self.block, self.contiguous)
        if key.dtype == bool:
            return self.block.module.select(self, key)
        return self.block.module.empty(key.shape + self.shape[1:], self.dtype)

    def __ne__(self, other: object) -> Any:
        return self.block.module.each(self, other, dtype=bool)

    def __add__(self, other: Any) -> CountedArray:
        return self.block.module.each(self, other)

    __mul__ = __rmul__ = __rtruediv__ = __add__
