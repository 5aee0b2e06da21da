"""What goes into a graph and what comes out, and the sizes of its dynamic dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from ..device import Array
from ..errors import ExecutionError

Role = Literal["rows", "shared", "padded"]
"""What a dynamic dimension is for.

"rows" counts what is computed side by side, and no row looks at another; "shared" is as large as
"rows", or 1 where all rows share what it counts; "padded" is the length of a row, which may be
padded with zeros that nothing looks at.
"""

Profile = dict[str, int]
"""Sizes of a graph's dynamic dimensions, by their names."""

CAPTION_LENGTHS = (16, 32, 64)  # tokens; builds pad a caption to the next of them


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of a graph.

    Attributes:
        dtype: as NumPy calls it, "float32" and the like.
        shape: sizes of the dimensions, and the names of those that are dynamic.
    """

    dtype: str
    shape: tuple[int | str, ...]

    def sized(self, sizes: Profile) -> tuple[int, ...]:
        """The shape, given the sizes of the dynamic dimensions."""
        return tuple(sizes[one] if isinstance(one, str) else one for one in self.shape)


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs and outputs of a graph, by name.

    Attributes:
        inputs: what goes in.
        outputs: what comes out.
        roles: what the dynamic dimensions are for; one of each role at most.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    roles: dict[str, Role] = {}

    def dimension(self, role: Role) -> str | None:
        """The name of the dimension of a role."""
        return next((name for name, own in self.roles.items() if own == role), None)

    def length(self, sizes: Profile) -> int:
        """The length of a row that may be padded; 0 where rows of the graph have none."""
        padded = self.dimension("padded")
        return sizes[padded] if padded else 0

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
        rows, shared = self.dimension("rows"), self.dimension("shared")
        fit = all(
            len(shape) == len(tensor.shape) and shape == tensor.sized(sizes)
            for shape, tensor in pairs
        )
        if not fit or (rows and shared and sizes[shared] not in (1, sizes[rows])):
            shapes = ", ".join(f"{name} {feeds[name].shape}" for name in self.inputs)
            raise ExecutionError(f"these do not fit together: {shapes}")
        return sizes


class Graph(Signature, frozen=True, kw_only=True):
    """A graph of a model folder.

    Attributes:
        file: the ONNX file, as a path from the model folder, with forward slashes.
        weights: the file of its weights, likewise; several graphs may have the same.
        lengths: of the dimension that may be padded, the lengths that are worth a build.
        limits: the largest size of that dimension.
        gradient: whether it differentiates: then rounding is largest there.
        only_for: the settings without which it does not run, by name; empty where it always does.
    """

    file: str
    weights: str
    lengths: dict[str, list[int]] = {}
    limits: dict[str, int] = {}
    gradient: bool = False
    only_for: dict[str, str] = {}
