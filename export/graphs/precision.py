"""Mixed precision, written into the graph: a strongly typed TensorRT does what the graph says.

The policy. In low precision, float16 or bfloat16, are the matrix products and what lies between
two of them without changing how exact a value is:

- MatMul and Conv, their weights, and the bias of a linear layer. Tensor cores take low precision,
  add up in float32 and round the result once;
- scaling by a power of two, which loses nothing;
- Transpose, Reshape, Split, Slice, Gather, Squeeze and Unsqueeze of what is in low precision, or is
  wanted in it alone;
- the look-up of word embeddings: the largest table of the text encoder.

All else is in float32: the residual stream, LayerNormalization, Softmax, GELU (a sum of 1 and erf,
which low precision cancels), every reduction, division and root, the derivatives of them all,
A * max(G, 0), and the ITM head, whose two columns cost nothing. TensorRT (RTX 1.7, by its log)
fuses the casts into their neighbors, GELU into the product before it, and attention, softmax in
float32 and all, into one kernel.

Inputs and outputs keep their types. A value is cast once for all who want it so; a weight is stored
once, in the type in which it is used, and converted only when it is read, so that no second copy of
a model is held in memory.
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

_BFLOAT16_OPSET = 22  # the first whose Conv takes bfloat16; all else is as in 20


def convert(model: ir.Model, precision: Precision) -> ir.Model:
    """A graph of a model folder in another precision; in "fp32", the graph itself.

    Args:
        model: as exported, its weights in float32, or in float16 with a Cast after each. It is left
            as it was, but for the types and shapes of its values, which are filled in.
        precision: of the matrix products.

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


class _Rewriting:
    """Makes a graph anew, each node in its precision.

    Args:
        low_type: float16 or bfloat16.
        low_nodes: those to compute in it; the others compute in float32.
    """

    def __init__(self, low_type: ir.DataType, low_nodes: set[ir.Node]) -> None:
        self._low_type = low_type
        self._low_nodes = low_nodes
        self._nodes: list[ir.Node] = []
        self._initializers: dict[str, ir.Value] = {}
        self._made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def graph(self, old: ir.Graph) -> ir.Graph:
        """A graph with the inputs, outputs and names of the old one."""
        inputs = [ir.val(value.name, value.dtype, value.shape) for value in old.inputs]
        self._made.update(
            ((value, _type_of(value)), new) for value, new in zip(old.inputs, inputs, strict=True)
        )
        for node in old:
            if not _weight(node.outputs[0]):
                self._rewrite(node)
        outputs = [self._as(value, _type_of(value)) for value in old.outputs]
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
        own = self._low_type if node in self._low_nodes else FLOAT
        new = ir.Node(
            node.domain,
            node.op_type,
            [value and self._as(value, own) for value in node.inputs],
            node.attributes,
            num_outputs=len(node.outputs),
            name=node.name,
        )
        self._nodes.append(new)
        for value, made in zip(node.outputs, new.outputs, strict=True):
            made.name = value.name
            self._made[value, own if _is_real(value) else _type_of(value)] = made

    def _as(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        """What stands for a value of the old graph; if it is a real number, in the type wanted."""
        value = _weight(value) or value
        key = (value, wanted if _is_real(value) else _type_of(value))
        if key not in self._made:
            make = self._store if value.const_value else self._cast
            self._made[key] = make(value, key[1])
        return self._made[key]

    def _cast(self, value: ir.Value, to: ir.DataType) -> ir.Value:
        source = self._made[value, FLOAT if to == self._low_type else self._low_type]
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
    """The nodes to compute in low precision."""
    nodes = [node for node in graph if not _gives_output(node)]
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
    """Whether an output of the graph is what it computes, or that with a bias."""
    last = [node, *filter(_is_bias, _consumers(node))]
    return any(value.is_graph_output() for node in last for value in node.outputs)


def _is_bias(node: ir.Node) -> bool:
    """Whether it adds a weight to a matrix product."""
    if node.op_type != "Add":
        return False
    product, bias = _inputs(node)
    producer = product.producer()
    return bool(producer and producer.op_type == "MatMul" and _weight(bias))


def _is_exact_scaling(node: ir.Node) -> bool:
    """Whether it multiplies by a constant power of two."""
    factor = _weight(_inputs(node)[1]) if node.op_type == "Mul" else None
    values = factor.const_value.numpy() if factor and factor.const_value else np.zeros(0)
    return values.size == 1 and math.frexp(values.item())[0] == 0.5


def _is_look_up(node: ir.Node) -> bool:
    """Whether it reads rows of a weight at places that are not known beforehand."""
    if node.op_type != "Gather":
        return False
    table, places = _inputs(node)
    return bool(_weight(table) and not _weight(places))


def _consumers(node: ir.Node) -> list[ir.Node]:
    return [consumer for output in node.outputs for consumer in output.consumers()]


def _inputs(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value]


def _weight(value: ir.Value) -> ir.Value | None:
    """The weight or constant that a value is: itself, or what it is cast from."""
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
    """Its tensor in another type, converted whenever it is read.

    Raises:
        ModelError: it has values that the type has not.
    """
    tensor = weight.const_value
    assert tensor is not None
    if tensor.dtype == dtype:
        return tensor
    if dtype == ir.DataType.FLOAT16:
        values, largest = tensor.numpy(), np.finfo(np.float16).max
        if max(values.max(), -values.min()) > largest:
            raise ModelError(
                f"{name} has values beyond {largest:.0f}, the largest of float16",
                "take --precision bf16",
            )
    return ir.LazyTensor(
        lambda: ir.tensor(tensor.numpy().astype(dtype.numpy()), name=name),
        dtype=dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=name,
    )
