"""Translates an exported graph to a PyTorch module that PyTorch can compile.

The module comes from the ONNX graph, not from the checkpoint. So it needs only the model folder,
and has the graph's gradient and precision. Attention whose probabilities have no other consumer
becomes PyTorch's fused attention.
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

SHARED = "images"  # dimension that rows may share, in BLIP's graphs
EACH = "captions"  # axis of a module's inputs that counts the captions of an image


def torch_module(model: ir.Model, shared: str | None = SHARED) -> fx.GraphModule:
    """Translate a graph that this package exported, in any precision, to a PyTorch module.

    The module takes inputs by name, of the shapes in `input_shapes`, and returns the graph's
    outputs by name. A compiled module takes one caption or many captions for each image, and never
    copies an image's keys and values. Weights are buffers that share the graph's memory, unless the
    graph casts them.

    Args:
        model: exported graph.
        shared: name of the dimension that rows may share; see `signature.Role`.

    Returns:
        The module.

    Raises:
        ModelError: the graph has an operator that cannot be translated.
    """
    return _Translation(model, shared).module()


def input_shapes(model: ir.Model, shared: str | None = SHARED) -> dict[str, list[int | str]]:
    """Return the shapes of a module's inputs by name, with dynamic dimensions as strings.

    The shapes are the graph's. But if the graph has images and captions, the module takes captions
    as [images, captions, tokens], and returns images * captions rows.

    Args:
        model: exported graph.
        shared: name of the dimension that rows may share; see `signature.Role`.
    """
    shapes = {str(value.name): _sizes(value) for value in model.graph.inputs}
    if shared and any(shape[0] == shared for shape in shapes.values()):
        for shape in shapes.values():
            shape[:1] = [shared] if shape[0] == shared else [shared, EACH]
    return shapes


def _sizes(value: ir.Value) -> list[int | str]:
    return [size if isinstance(size, int) else str(size) for size in value.shape or ()]


class _Translation:
    """Translates ONNX nodes to `torch.fx` nodes, one by one."""

    def __init__(self, model: ir.Model, shared: str | None) -> None:
        self._source = model.graph
        self._shared = shared
        self._graph = fx.Graph()
        self._constants = {value: _tensor(value) for value in model.graph.initializers.values()}
        self._weights: dict[str, Tensor] = {}
        self._nodes: dict[ir.Value | None, Any] = {None: None}
        self._images: set[ir.Value] = set()  # values with a row for each image
        self._rows: set[ir.Value] = set()  # values with a row for each caption
        self._layout: fx.Node | None = None  # layout of the rows: images, captions of an image

    def module(self) -> fx.GraphModule:
        """Translate all nodes, and return the module."""
        self._take_inputs()
        for node in self._source:
            if node.op_type == "Cast" and node.inputs[0] in self._constants:
                dtype = DTYPES[node.attributes["to"].value]
                self._constants[node.outputs[0]] = self._constants[node.inputs[0]].to(dtype)
            else:
                self._translate(node)
        self._graph.output({str(value.name): self._nodes[value] for value in self._source.outputs})
        self._graph.eliminate_dead_code()  # nodes that fused attention replaced
        return fx.GraphModule(self._weights, self._graph)

    def _take_inputs(self) -> None:
        inputs = self._source.inputs
        for value in inputs:
            self._nodes[value] = self._graph.placeholder(str(value.name))
            if value.shape and value.shape[0] == self._shared:
                self._images.add(value)
            else:
                self._rows.add(value)
        for value in inputs:
            if self._images and value in self._rows:
                captions = self._nodes[value]
                self._layout = self._graph.call_function(layout_of, (captions,))
                self._nodes[value] = self._graph.call_function(torch.flatten, (captions, 0, 1))

    def _translate(self, node: ir.Node) -> None:
        attributes: dict[str, Any] = {name: value.value for name, value in node.attributes.items()}
        function, inputs = OPERATORS.get(node.op_type), list(node.inputs)
        if node.op_type == "MatMul" and (fused := _fused_attention(node)):
            function, inputs = attend, [fused.query, fused.key, fused.value, fused.bias]
            attributes = {"scale": fused.scale}
        elif node.op_type == "Range":
            attributes = {"like": self._nodes[self._source.inputs[0]]}
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
                "export the model again with this version: pnp-ovss export CHECKPOINT -o DIR",
            )
        output = self._graph.call_function(
            function, tuple(self._argument(value) for value in inputs), attributes
        )
        for index, value in enumerate(node.outputs):
            self._nodes[value] = (
                self._graph.call_function(operator.getitem, (output, index))
                if len(node.outputs) > 1
                else output
            )

    def _argument(self, value: ir.Value | None) -> Any:
        """Return the `torch.fx` node of a value; axes, sizes and scalars become literals."""
        if value and value not in self._nodes:
            constant = self._constants[value]
            if constant.ndim == 0 or (constant.ndim == 1 and constant.dtype == torch.int64):
                numbers = constant.tolist()
                self._nodes[value] = tuple(numbers) if constant.ndim else numbers
            else:
                name = str(value.name).replace(".", "/")  # a dot would ask for a module
                self._weights[name] = constant
                self._nodes[value] = self._graph.get_attr(name)
        return self._nodes[value]


def _tensor(value: ir.Value) -> Tensor:
    assert value.const_value is not None, f"{value.name} has no value"
    array = value.const_value.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # PyTorch warns of read-only memory, which is only read
        if value.dtype == ir.DataType.BFLOAT16:  # which torch.from_numpy refuses
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)


class _Attention(NamedTuple):
    """The operands of attention, softmax(scale * query key^T + bias) value."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    bias: ir.Value | None
    scale: float


def _fused_attention(last: ir.Node) -> _Attention | None:
    """Return the attention that ends in a matrix product, if its inner values have no other use."""
    probabilities, value = _operands(last)
    softmax = _sole_producer(probabilities, "Softmax")
    if not softmax:
        return None
    (scores,), bias, scale = _operands(softmax), None, 1.0
    if add := _sole_producer(scores, "Add"):
        scores, bias = _operands(add)
    product = _sole_producer(scores, "MatMul")
    if not product:
        return None
    query, transposed = _operands(product)
    transpose = transposed.producer()
    if not transpose or transpose.op_type != "Transpose":
        return None
    if list(transpose.attributes["perm"].as_ints()) != [0, 1, 3, 2]:
        return None
    if multiply := _sole_producer(query, "Mul"):
        scaled, factor = _operands(multiply)
        if factor.const_value and factor.const_value.size == 1:
            query, scale = scaled, float(factor.const_value.numpy())
    return _Attention(query, _operands(transpose)[0], value, bias, scale)


def _sole_producer(value: ir.Value, op_type: str) -> ir.Node | None:
    """Return the node of a type that computes a value (before casts), if the value has one use."""
    while (node := value.producer()) and len(value.uses()) == 1 and not value.is_graph_output():
        if node.op_type == op_type:
            return node
        if node.op_type != "Cast":
            return None
        (value,) = _operands(node)
    return None


def _operands(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value]
