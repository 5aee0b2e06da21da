"""Inputs and outputs of a graph, and the sizes of its dynamic dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ..device import Array
from ..errors import ExecutionError, ModelError
from ..settings import Settings

Role = Literal["rows", "shared", "padded", "classes"]
"""What a dynamic dimension is for.

"rows" counts items that are computed side by side; no row depends on another. "shared" is as large
as "rows", or 1 where all rows share one item. "padded" is the length of a row, which may be padded
with zeros. "classes" counts the classes of a row, and may be padded with zeros as well.
"""

PADDED: tuple[Role, ...] = ("padded", "classes")
"""Roles of dimensions whose sizes are bounded, and chosen for builds."""

Profile = dict[str, int]
"""Sizes of a graph's dynamic dimensions, by their names."""

CAPTION_LENGTHS = (16, 32, 64)  # tokens; builds pad a caption to the next of them


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of a graph.

    Attributes:
        dtype: name of the NumPy dtype, such as "float32".
        shape: the size of each dimension, or the name of a dynamic one.
    """

    dtype: str
    shape: tuple[int | str, ...]

    def sized(self, sizes: Profile) -> tuple[int, ...]:
        """Fill the sizes of the dynamic dimensions into the shape."""
        return tuple(sizes[size] if isinstance(size, str) else size for size in self.shape)

    def fits(self, other: Tensor) -> bool:
        """Tell whether a tensor may be the other; a dynamic dimension of either has any size."""
        return (
            self.dtype == other.dtype
            and len(self.shape) == len(other.shape)
            and all(
                one == size or isinstance(one, str) or isinstance(size, str)
                for one, size in zip(self.shape, other.shape, strict=True)
            )
        )

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.shape))}]"


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs and outputs of a graph, by name.

    Attributes:
        inputs: inputs of the graph.
        outputs: outputs of the graph.
        roles: role of each dynamic dimension; each role occurs once at most.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    roles: dict[str, Role] = {}

    def dimension(self, role: Role) -> str | None:
        """Return the name of the dimension that has a role; None where no dimension has it."""
        return next((name for name, its_role in self.roles.items() if its_role == role), None)

    def length(self, sizes: Profile) -> int:
        """Return the size of the padded dimension; 0 where the graph has none."""
        padded = self.dimension("padded")
        return sizes[padded] if padded else 0

    def sizes(self, feeds: Mapping[str, Array]) -> Profile:
        """Read the sizes of the dynamic dimensions off the inputs of a call.

        Raises:
            ExecutionError: the shapes of the inputs do not fit together.
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
            raise ExecutionError(
                f"these do not fit together: {shapes}", "give arrays of the manifest's shapes"
            )
        return sizes

    def require_graph(self, found: Signature, path: Path) -> None:
        """Refuse a graph whose inputs and outputs are others than these.

        Args:
            found: inputs and outputs that the graph has.
            path: path of the graph, for the error.

        Raises:
            ModelError: a name, a dtype or a fixed size is another.
        """
        for told, real in ((self.inputs, found.inputs), (self.outputs, found.outputs)):
            wrong = sorted(told.keys() ^ real.keys())
            wrong += [one for one in told if one in real and not told[one].fits(real[one])]
            if wrong:
                has, wanted = real.get(wrong[0], "nothing"), told.get(wrong[0], "nothing")
                raise ModelError(
                    f"'{path}' has {wrong[0]!r} as {has}, and the manifest as {wanted}",
                    "it is not the graph that the manifest describes: export the model again",
                )

    def check_outputs(self, feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Refuse outputs that are not what the signature says.

        Args:
            feeds: inputs of the call.
            outputs: outputs of the call, all or some.

        Raises:
            ExecutionError: an output is of another dtype or shape, or the inputs do not fit.
        """
        sizes = self.sizes(feeds)
        for output, value in outputs.items():
            wanted = self.outputs[output]
            # a dimension that no input has may be of any size
            own = {
                name: size
                for name, size in zip(wanted.shape, value.shape, strict=False)
                if isinstance(name, str)
            }
            ranks_fit = len(value.shape) == len(wanted.shape)
            shape = wanted.sized(own | sizes) if ranks_fit else wanted.shape
            kinds = (np.dtype(wanted.dtype).kind, "V")  # of bfloat16, which NumPy does not know
            if value.shape != shape or value.dtype.kind not in kinds:
                raise ExecutionError(
                    f"the graph gave {output} as {value.dtype} {list(value.shape)} instead of"
                    f" {wanted.dtype} {list(shape)}",
                    "it is not the graph that the manifest describes: export the model again",
                )


class Baked(msgspec.Struct, frozen=True, kw_only=True):
    """What is fixed in a fused graph, which is the whole method in one file.

    Attributes:
        settings: settings of the passes, and of the refinement where the graph gives labels.
            `join_words` and `sum_last_class` say how captions are to be written. `crf` and
            `refine_side` are None.
        classes: names of each class, the title first; None where the caption is an input.
        output_size: height and width of the labels in pixels; None where the graph gives none.
    """

    settings: Settings
    classes: list[list[str]] | None = None
    output_size: tuple[int, int] | None = None


class Graph(Signature, frozen=True, kw_only=True):
    """A graph of a model folder.

    Attributes:
        file: path of the ONNX file from the model folder, with forward slashes.
        weights: path of the file of weights from the model folder, or of several such files; graphs
            may share them.
        lengths: sizes that are worth a build, by the name of the dimension, padded or classes.
        limits: largest size, by the name of such a dimension.
        gradient: whether the graph differentiates; rounding errors are largest there.
        only_for: settings that the graph serves, by name; empty where it serves all.
        baked: what is fixed in a fused graph; None for other graphs.
    """

    file: str
    weights: str | list[str]
    lengths: dict[str, list[int]] = {}
    limits: dict[str, int] = {}
    gradient: bool = False
    only_for: dict[str, str] = {}
    baked: Baked | None = None

    @property
    def weight_files(self) -> list[str]:
        """Paths of the files of weights from the model folder."""
        return [self.weights] if isinstance(self.weights, str) else self.weights

    @property
    def files(self) -> list[str]:
        """Paths of the graph's files from the model folder: the ONNX file, then its weights."""
        return [self.file, *self.weight_files]

    def unusable(self) -> str:
        """Say why nothing can run such a graph; "" where it can be run."""
        for name, tensor in (*self.inputs.items(), *self.outputs.items()):
            sizes = [size for size in tensor.shape if isinstance(size, int)]
            if not _is_dtype(tensor.dtype) or any(size < 1 for size in sizes):
                return f"has {name} as {tensor}"
        dimensions = {one for tensor in self.inputs.values() for one in tensor.shape}
        if not self.roles.keys() <= dimensions:
            return "has roles for dimensions that its inputs do not have"
        if len(set(self.roles.values())) < len(self.roles):
            return "has several dimensions of one role"
        for padded in filter(None, map(self.dimension, PADDED)):
            lengths, limit = self.lengths.get(padded), self.limits.get(padded)
            if not lengths or limit is None:
                return f"tells no lengths of {padded}"
            if not all(1 <= length <= limit for length in lengths):
                return f"has lengths {lengths} of {padded}, of which {limit} is the largest"
        return ""


def _is_dtype(name: str) -> bool:
    """Tell whether NumPy has numbers of that name; of bfloat16 it has none."""
    try:
        return name == "bfloat16" or np.dtype(name).kind in "biuf"
    except TypeError:
        return False
