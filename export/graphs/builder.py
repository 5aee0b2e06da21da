"""Builds ONNX graphs: operators are methods, and weights have their PyTorch names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from ...engine.model.signature import Tensor
from . import WEIGHTS

if TYPE_CHECKING:  # graphs of a model folder are composed and saved without PyTorch
    import torch
    from torch import nn

OPSET = 20  # the first with Gelu; ONNX Runtime 1.18 and TensorRT 10 both read it
IR_VERSION = 10
FLOAT = ir.DataType.FLOAT

_STORED = {"torch.float32": FLOAT, "torch.float16": ir.DataType.FLOAT16}


class Operators(Tape):
    """A graph under construction; `graph.Softmax(x, axis=-1)` appends a node.

    All arithmetic is in float32.
    """

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[object, ir.Value] = {}

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **attributes: self.append(op_type, inputs, attributes)[0]

    def append(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any],
        outputs: int = 1,
    ) -> Sequence[ir.Value]:
        """Append a node, and return its outputs."""
        return self.op_multi_out(op_type, inputs, attributes, num_outputs=outputs)

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> ir.Value:
        """Create a graph input; dimensions given as strings are dynamic."""
        return ir.val(name, dtype=dtype, shape=shape)

    def scalar(self, value: float) -> ir.Value:
        """Return a float32 constant of rank 0."""
        return self.constant(np.asarray(value, np.float32))

    def integer(self, value: int) -> ir.Value:
        """Return an int64 constant of rank 0."""
        return self.constant(np.asarray(value, np.int64))

    def ints(self, *values: int) -> ir.Value:
        """Return an int64 vector constant: axes, shapes, slice bounds."""
        return self.constant(np.asarray(values, np.int64))

    def constant(self, array: np.ndarray) -> ir.Value:
        """Return a constant; equal ones are stored once."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._values:
            name = f"constant_{len(self._values)}"
            self._values[key] = self.initializer(ir.tensor(array, name=name))
        return self._values[key]

    def finish(
        self, inputs: Sequence[ir.Value], outputs: dict[str, tuple[ir.Value, Any]]
    ) -> ir.Model:
        """Return the ONNX model.

        Args:
            inputs: graph inputs, in order.
            outputs: value and shape of each graph output, by its name; float32 where the value
                has no type.
        """
        for name, (value, shape) in outputs.items():
            value.name = name
            value.dtype = value.dtype or FLOAT
            value.shape = ir.Shape(shape)
        graph = ir.Graph(
            inputs,
            [value for value, _ in outputs.values()],
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports={"": OPSET},
            name="pnp_ovss",
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="pnp-ovss")


class Graph(Operators):
    """A graph of a PyTorch module.

    A weight is stored under its name in the module, in the module's precision. Weights are read
    when the graph is written, so that building a graph copies none.

    Args:
        module: PyTorch module whose parameters are the graph's weights.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._names = {id(parameter): name for name, parameter in module.named_parameters()}

    def weight(self, parameter: torch.Tensor, *, transpose: bool = False) -> ir.Value:
        """Return a parameter of the module as float32, transposed if asked for."""
        name = self._names[id(parameter)] + (".transposed" if transpose else "")
        if name not in self._values:
            data = parameter.detach()
            data = data.t() if transpose else data
            stored = self.initializer(
                ir.LazyTensor(
                    lambda: ir.tensor(data.contiguous().numpy(), name=name),
                    dtype=_STORED[str(data.dtype)],
                    shape=ir.Shape(data.shape),
                    name=name,
                )
            )
            self._values[name] = stored if stored.dtype == FLOAT else self.Cast(stored, to=FLOAT)
        return self._values[name]


def save(model: ir.Model, path: Path) -> list[Path]:
    """Write a graph to `path`, and its weights to `<path>_data`; return both paths."""
    data = path.with_name(path.name + WEIGHTS)
    ir.save(model, path, external_data=data.name)
    return [path, data]


def save_sharing(model: ir.Model, path: Path, sharing: Path) -> list[Path]:
    """Write a graph without its weights, which another graph in the same folder has stored.

    Args:
        model: graph, whose weights have the names of the other graph's weights.
        path: path of the new ONNX file.
        sharing: path of the ONNX file whose weights are shared, in the same folder.

    Returns:
        The paths of the files written.
    """
    stored = ir.load(sharing).graph.initializers  # offsets in the file of weights, not arrays
    for name, value in model.graph.initializers.items():
        if name in stored and isinstance(stored[name].const_value, ir.ExternalTensor):
            value.const_value = stored[name].const_value
    ir.save(model, path)
    return [path]


def signature(model: ir.Model) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the inputs and the outputs of a graph, by name."""
    inputs, outputs = (
        {str(value.name): _tensor(value) for value in values}
        for values in (model.graph.inputs, model.graph.outputs)
    )
    return inputs, outputs


def _tensor(value: ir.Value) -> Tensor:
    assert value.dtype is not None
    shape = (size if isinstance(size, int) else str(size) for size in value.shape or ())
    return Tensor(value.dtype.numpy().name, tuple(shape))
