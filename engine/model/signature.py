"""What goes into a graph and what comes out, and the sizes of its dynamic dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..device import Array
from ..errors import ExecutionError

Profile = dict[str, int]
"""Sizes of a graph's dynamic dimensions, by the names that they have in its ONNX file."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph; its dynamic dimensions have names."""

    dtype: np.dtype
    shape: tuple[int | str, ...]

    def sized(self, sizes: Profile) -> tuple[int, ...]:
        """The shape, given the sizes of the dynamic dimensions."""
        return tuple(sizes[one] if isinstance(one, str) else one for one in self.shape)


@dataclass(frozen=True)
class Signature:
    """What goes into a graph, and what comes out, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def sizes(self, feeds: Mapping[str, Array]) -> Profile:
        """The sizes of the dynamic dimensions.

        Raises:
            ExecutionError: the inputs do not fit together.
        """
        pairs = [(feeds[name].shape, tensor) for name, tensor in self.inputs.items()]
        sizes = {
            name: size
            for shape, tensor in pairs
            for name, size in zip(tensor.shape, shape, strict=False)
            if isinstance(name, str)
        }
        fit = all(shape == tensor.sized(sizes) for shape, tensor in pairs)
        if not fit or sizes.get("images", 1) not in (1, sizes["batch"]):
            shapes = ", ".join(f"{name} {feeds[name].shape}" for name in self.inputs)
            raise ExecutionError(f"these do not fit together: {shapes}")
        return sizes
