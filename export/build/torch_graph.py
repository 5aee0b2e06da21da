"""An exported graph as a PyTorch module: the same operators, in a form that PyTorch can compile.

It is made from the ONNX graph, not from the checkpoint: so it needs the model folder alone, and
computes what the other backends do, gradient and precision included. Attention of which nothing
else reads the probabilities becomes PyTorch's fused one.
"""

from __future__ import annotations

import operator
import warnings
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx

from ...engine.errors import ModelError
from .torch_operators import BY_IMAGE, DTYPES, OPERATORS, attend, layout_of

SHARED = "images"  # dimension that rows may share, as BLIP's graphs call it
EACH = "captions"  # of an image: the axis that a module's inputs have beside the shared one


def torch_module(model: ir.Model, shared: str | None = SHARED) -> fx.GraphModule:
    """The module of a graph that was exported by this package, or of one converted from it.

    It takes inputs by name, as `input_shapes` says, and returns the graph's outputs by name. One
    compiled module serves a caption for each image as well as many about one, and never copies
    an image's keys and values.

    Weights are buffers that share the graph's memory, except where the graph casts them.

    Args:
        model: the graph.
        shared: the dimension that rows may share; see `signature.Role`.

    Raises:
        ModelError: the graph has an operator that is not known here.
    """
    return _Translation(model, shared).module()


def input_shapes(model: ir.Model, shared: str | None = SHARED) -> dict[str, list[int | str]]:
    """Shapes of a module's inputs; dynamic dimensions by name.

    They are the graph's; but where it has images and captions, captions come by image,
    [images, captions, tokens], and the rows of what is returned are images * captions.
    """
    shapes = {str(value.name): _sizes(value) for value in model.graph.inputs}
    if shared and any(shape[0] == shared for shape in shapes.values()):
        for shape in shapes.values():
            shape[:1] = [shared] if shape[0] == shared else [shared, EACH]
    return shapes


def _sizes(value: ir.Value) -> list[int | str]:
    return [size if isinstance(size, int) else str(size) for size in value.shape or ()]


class _Translation:
    """From ONNX nodes to those of `torch.fx`, one by one."""

    def __init__(self, model: ir.Model, shared: str | None) -> None:
        self._source = model.graph
        self._shared = shared
        self._graph = fx.Graph()
        self._constants = {value: _tensor(value) for value in model.graph.initializers.values()}
        self._weights: dict[str, Tensor] = {}
        self._made: dict[ir.Value | None, Any] = {None: None}
        self._images: set[ir.Value] = set()  # values with a row for each image
        self._rows: set[ir.Value] = set()  # values with a row for each caption
        self._layout: fx.Node | None = None  # of the rows: images, captions of each

    def module(self) -> fx.GraphModule:
        self._take_inputs()
        for node in self._source:
            if node.op_type == "Cast" and node.inputs[0] in self._constants:
                dtype = DTYPES[node.attributes["to"].value]
                self._constants[node.outputs[0]] = self._constants[node.inputs[0]].to(dtype)
            else:
                self._translate(node)
        self._graph.output({str(value.name): self._made[value] for value in self._source.outputs})
        self._graph.eliminate_dead_code()  # what a fused attention has replaced
        return fx.GraphModule(self._weights, self._graph)

    def _take_inputs(self) -> None:
        inputs = self._source.inputs
        for value in inputs:
            self._made[value] = self._graph.placeholder(str(value.name))
            if value.shape and value.shape[0] == self._shared:
                self._images.add(value)
            else:
                self._rows.add(value)
        for value in inputs:
            if self._images and value in self._rows:
                captions = self._made[value]
                self._layout = self._graph.call_function(layout_of, (captions,))
                self._made[value] = self._graph.call_function(torch.flatten, (captions, 0, 1))

    def _translate(self, node: ir.Node) -> None:
        attributes: dict[str, Any] = {name: value.value for name, value in node.attributes.items()}
        function, inputs = OPERATORS.get(node.op_type), list(node.inputs)
        if node.op_type == "MatMul" and (fused := _fused_attention(node)):
            function, inputs = attend, [fused.query, fused.key, fused.value, fused.bias]
            attributes = {"scale": fused.scale}
        elif node.op_type == "Range":
            attributes = {"like": self._made[self._source.inputs[0]]}
        if not self._rows.isdisjoint(inputs):
            if not self._images.isdisjoint(inputs):
                function = BY_IMAGE.get(function) if inputs[0] in self._rows else None
                attributes["layout"] = self._layout
            self._rows.update(node.outputs)
        elif not self._images.isdisjoint(inputs):
            self._images.update(node.outputs)
        if function is None:
            raise ModelError(
                f"the graph has an operator {node.op_type} that cannot be translated to PyTorch",
                "export the model again with this version of pnp-ovss",
            )
        made = self._graph.call_function(
            function, tuple(self._argument(value) for value in inputs), attributes
        )
        for index, value in enumerate(node.outputs):
            self._made[value] = (
                self._graph.call_function(operator.getitem, (made, index))
                if len(node.outputs) > 1
                else made
            )

    def _argument(self, value: ir.Value | None) -> Any:
        """What was made for a value; of constants, numbers are written into the code."""
        if value and value not in self._made:
            constant = self._constants[value]
            if constant.ndim == 0 or constant.dtype == torch.int64:
                numbers = constant.tolist()
                self._made[value] = tuple(numbers) if constant.ndim else numbers
            else:
                name = str(value.name).replace(".", "/")  # a dot would ask for a module
                self._weights[name] = constant
                self._made[value] = self._graph.get_attr(name)
        return self._made[value]


def _tensor(value: ir.Value) -> Tensor:
    assert value.const_value is not None, f"{value.name} has no value"
    array = value.const_value.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the memory is read-only; so is the use of it
        if value.dtype == ir.DataType.BFLOAT16:  # which NumPy has from another package
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)


class _Attention(NamedTuple):
    """softmax(scale * query key^T + bias) value."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    bias: ir.Value | None
    scale: float


def _fused_attention(last: ir.Node) -> _Attention | None:
    """The attention that ends in a matrix product, if nothing else reads what is in between."""
    probabilities, value = _operands(last)
    softmax = _made_for_this(probabilities, "Softmax")
    if not softmax:
        return None
    (scores,), bias, scale = _operands(softmax), None, 1.0
    if add := _made_for_this(scores, "Add"):
        scores, bias = _operands(add)
    product = _made_for_this(scores, "MatMul")
    if not product:
        return None
    query, transposed = _operands(product)
    transpose = transposed.producer()
    if not transpose or transpose.op_type != "Transpose":
        return None
    if list(transpose.attributes["perm"].as_ints()) != [0, 1, 3, 2]:
        return None
    if multiply := _made_for_this(query, "Mul"):
        scaled, factor = _operands(multiply)
        if factor.const_value and factor.const_value.size == 1:
            query, scale = scaled, float(factor.const_value.numpy())
    return _Attention(query, _operands(transpose)[0], value, bias, scale)


def _made_for_this(value: ir.Value, op_type: str) -> ir.Node | None:
    """The node of this type that made a value for one use, apart from casts on the way."""
    while (node := value.producer()) and len(value.uses()) == 1 and not value.is_graph_output():
        if node.op_type == op_type:
            return node
        if node.op_type != "Cast":
            return None
        (value,) = _operands(node)
    return None


def _operands(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value]
