"""Writes mixed precision into a graph: strongly typed TensorRT computes in the graph's types.

Low precision is float16 or bfloat16. These nodes compute in it:

- MatMul and Conv, with their weights, and the bias of a linear layer. Tensor cores take low
  precision, sum in float32 and round the result once.
- Multiplication by a power of two, which is exact.
- Transpose, Reshape, Split, Slice, Gather, Squeeze and Unsqueeze, if their input is in low
  precision or all their consumers are.
- The look-up of word embeddings, the largest table of the text encoder.

All other nodes compute in float32. These are the residual stream, LayerNormalization, Softmax, GELU
(1 + erf cancels in low precision), every reduction, division and root, and their derivatives.
A * max(G, 0) is in float32, too, and so is the ITM head, whose two columns cost nothing, and what
`compute_in_float32` marks.

TensorRT (RTX 1.7, by its log) fuses the casts into the neighboring kernels, and GELU into the
product before it. It fuses attention, with softmax in float32, into a single kernel.

Inputs and outputs keep their types. A value is cast once for all its consumers. A weight is stored
once, in the type that its consumer needs. It is converted when it is read, so that memory holds no
second copy of a model.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from ...engine.errors import ModelError
from ...engine.precision import Precision

FLOAT = ir.DataType.FLOAT
LOW = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

PRODUCTS = {"MatMul", "Conv"}
MOVES = {"Gather", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}

_IN_FLOAT32 = ("pnp_ovss.precision", "float32")  # metadata of a node

_BFLOAT16_OPSET = 22  # first opset whose Conv takes bfloat16; other operators are as in 20


def convert(model: ir.Model, precision: Precision) -> ir.Model:
    """Convert an exported graph to another precision.

    Args:
        model: exported graph, with weights in float32, or in float16 with a Cast after each. The
            types and shapes of its values are filled in; nothing else of it changes.
        precision: precision of the matrix products.

    Returns:
        The converted graph; for "fp32" the same graph.

    Raises:
        ModelError: a weight is too large for float16.
    """
    if precision == "fp32":
        return model
    ShapeInferencePass()(model)
    graph = _Rewriting(LOW[precision], _low_nodes(model.graph)).graph(model.graph)
    if precision == "bf16":
        graph.opset_imports[""] = max(graph.opset_imports[""], _BFLOAT16_OPSET)
    return ir.Model(graph, ir_version=model.ir_version, producer_name=model.producer_name)


def compute_in_float32(value: ir.Value) -> ir.Value:
    """Mark the node that computes a value: it stays in float32 in every precision.

    The mark is metadata of the node, which the ONNX file keeps.
    """
    node = value.producer()
    assert node is not None
    name, precision = _IN_FLOAT32
    node.metadata_props[name] = precision
    return value


class _Rewriting:
    """Rewrites a graph, with each node in its precision.

    Args:
        low_type: low precision, float16 or bfloat16.
        low_nodes: nodes that compute in low precision; all others compute in float32.
    """

    def __init__(self, low_type: ir.DataType, low_nodes: set[ir.Node]) -> None:
        self._low_type = low_type
        self._low_nodes = low_nodes
        self._nodes: list[ir.Node] = []
        self._initializers: dict[str, ir.Value] = {}
        self._values: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def graph(self, old: ir.Graph) -> ir.Graph:
        """Return the rewritten graph, with the inputs, outputs and names of the old graph."""
        inputs = [ir.val(value.name, value.dtype, value.shape) for value in old.inputs]
        self._values.update(
            ((value, _type_of(value)), new) for value, new in zip(old.inputs, inputs, strict=True)
        )
        for node in old:
            if not _weight(node.outputs[0]):
                self._rewrite(node)
        outputs = [self._in_type(value, _type_of(value)) for value in old.outputs]
        for value, new in zip(old.outputs, outputs, strict=True):
            new.dtype, new.shape = _type_of(value), value.shape
        return ir.Graph(
            inputs,
            outputs,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports=dict(old.opset_imports),
            name=old.name,
        )

    def _rewrite(self, node: ir.Node) -> None:
        dtype = self._low_type if node in self._low_nodes else FLOAT
        new = ir.Node(
            node.domain,
            node.op_type,
            [value and self._in_type(value, dtype) for value in node.inputs],
            node.attributes,
            num_outputs=len(node.outputs),
            name=node.name,
        )
        self._nodes.append(new)
        for value, output in zip(node.outputs, new.outputs, strict=True):
            output.name = value.name
            self._values[value, dtype if _is_real(value) else _type_of(value)] = output

    def _in_type(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Return the new graph's value for an old one; a floating-point value in this type."""
        value = _weight(value) or value
        key = (value, dtype if _is_real(value) else _type_of(value))
        if key not in self._values:
            make = self._store if value.const_value else self._cast
            self._values[key] = make(value, key[1])
        return self._values[key]

    def _cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        source = self._values[value, FLOAT if to == self._low_type else self._low_type]
        cast = ir.node("Cast", [source], {"to": to})
        cast.outputs[0].name = f"{value.name}.{to.name.lower()}"
        self._nodes.append(cast)
        return cast.outputs[0]

    def _store(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        name = str(value.name)
        if name in self._initializers:  # a constant that is used in both types
            name = f"{name}.{dtype.name.lower()}"
        tensor = _converted(value, dtype, name)
        self._initializers[name] = ir.val(name, dtype, value.shape, const_value=tensor)
        return self._initializers[name]


def _low_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Return the nodes that compute in low precision; the module's docstring has the rules."""
    marked, as_float32 = _IN_FLOAT32
    nodes = [
        node
        for node in graph
        if not _gives_output(node) and node.metadata_props.get(marked) != as_float32
    ]
    low: set[ir.Node] = set()
    for node in nodes:
        if node.inputs and node.inputs[0] and node.inputs[0].producer() in low:
            chosen = node.op_type in MOVES or _is_bias(node) or _is_exact_scaling(node)
        else:
            chosen = _is_look_up(node)
        if chosen or node.op_type in PRODUCTS:
            low.add(node)
    for node in reversed(nodes):
        if node.op_type in MOVES and low.issuperset(_consumers(node)):
            low.add(node)
    return low


def _gives_output(node: ir.Node) -> bool:
    """Tell whether a node computes an output of the graph, with or without a bias added."""
    last = [node, *filter(_is_bias, _consumers(node))]
    return any(value.is_graph_output() for node in last for value in node.outputs)


def _is_bias(node: ir.Node) -> bool:
    """Tell whether a node adds a weight to a matrix product."""
    if node.op_type != "Add":
        return False
    product, bias = _inputs(node)
    producer = product.producer()
    return bool(producer and producer.op_type == "MatMul" and _weight(bias))


def _is_exact_scaling(node: ir.Node) -> bool:
    """Tell whether a node multiplies by a constant power of two."""
    factor = _weight(_inputs(node)[1]) if node.op_type == "Mul" else None
    values = factor.const_value.numpy() if factor and factor.const_value else np.zeros(0)
    return values.size == 1 and math.frexp(values.item())[0] == 0.5


def _is_look_up(node: ir.Node) -> bool:
    """Tell whether a node gathers rows of a weight at indices that are not constant."""
    if node.op_type != "Gather":
        return False
    table, indices = _inputs(node)
    return bool(_weight(table) and not _weight(indices))


def _consumers(node: ir.Node) -> list[ir.Node]:
    return [consumer for output in node.outputs for consumer in output.consumers()]


def _inputs(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value]


def _weight(value: ir.Value) -> ir.Value | None:
    """Return the weight or constant that a value is, or is cast from; None for other values."""
    producer = value.producer()
    if producer and producer.op_type == "Cast":
        (value,) = _inputs(producer)
    return value if value.const_value else None


def _type_of(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None, f"{value.name} has no type"
    return value.dtype


def _is_real(value: ir.Value) -> bool:
    return _type_of(value).is_floating_point()


def _converted(weight: ir.Value, dtype: ir.DataType, name: str) -> ir.TensorProtocol:
    """Return the tensor of a weight in another type, converted whenever it is read.

    Raises:
        ModelError: a value of the weight is beyond the range of float16.
    """
    tensor = weight.const_value
    assert tensor is not None
    if tensor.dtype == dtype:
        return tensor
    if dtype == ir.DataType.FLOAT16:
        values, largest = tensor.numpy(), np.finfo(np.float16).max
        if max(values.max(), -values.min()) > largest:
            raise ModelError(
                f"{name} has values beyond {largest:.0f}, the largest float16 value",
                "build it with --precision bf16",
            )
    return ir.LazyTensor(
        lambda: ir.tensor(tensor.numpy().astype(dtype.numpy()), name=name),
        dtype=dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=name,
    )
