"""Stores the transposes of square weights, so that no graph transposes one itself.

OpenVINO 2026.4 packs the weights of a product once, and finds them again by their data. It takes a
square weight for its transpose, and the result is wrong without a word. A host that loads a graph
by itself can do nothing about it. So a graph that needs both forms of a square weight stores both.
Weights that are not square are safe, as their shape tells the forms apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

_TRANSPOSED = ".transposed"  # suffix of the name of a weight that is stored transposed

Read = Callable[[ir.TensorProtocol], np.ndarray]
"""Reads a stored weight."""


def store_transposes(model: ir.Model, read: Read = lambda stored: stored.numpy()) -> None:
    """Replace each transposition of a square weight by a stored weight, in place.

    The weight is stored in the type of the other form. It is read when the graph is written, so
    that memory holds no second copy of a model.

    Args:
        model: graph, with weights in float32, or in float16 with a Cast after each.
        read: function that reads a weight of the graph.
    """
    graph = model.graph
    found = [(node, weight) for node in graph if (weight := _square_weight(node)) is not None]
    casts: dict[ir.Value, ir.Value] = {}
    for node, weight in found:
        stored = _other_form(graph, weight, read)
        output = node.outputs[0]
        if weight is not node.inputs[0]:
            if stored not in casts:
                cast = ir.node("Cast", [stored], {"to": ir.DataType.FLOAT})
                cast.outputs[0].name = f"{stored.name}.float"
                graph.insert_before(node, cast)
                casts[stored] = cast.outputs[0]
            stored = casts[stored]
        output.replace_all_uses_with(stored)
        graph.remove(node, safe=True)


def _square_weight(node: ir.Node) -> ir.Value | None:
    """Return the square weight that a node transposes, with or without a Cast between."""
    if node.op_type != "Transpose":
        return None
    weight = node.inputs[0]
    producer = weight.producer() if weight else None
    if producer and producer.op_type == "Cast":
        weight = producer.inputs[0]
    if weight is None or weight.const_value is None or weight.producer():
        return None
    shape = weight.const_value.shape.numpy()
    perm = node.attributes.get("perm")
    swaps = perm is None or list(perm.as_ints()) == [1, 0]
    return weight if len(shape) == 2 and shape[0] == shape[1] and swaps else None


def _other_form(graph: ir.Graph, weight: ir.Value, read: Read) -> ir.Value:
    """Return the stored transpose of a weight; it is added where the graph has none."""
    name = str(weight.name)
    other = name.removesuffix(_TRANSPOSED) if name.endswith(_TRANSPOSED) else name + _TRANSPOSED
    if other not in graph.initializers:
        tensor = weight.const_value
        assert tensor is not None
        transpose = ir.LazyTensor(
            lambda: ir.tensor(np.ascontiguousarray(read(tensor).T), name=other),
            dtype=tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=other,
        )
        graph.register_initializer(
            ir.val(other, tensor.dtype, transpose.shape, const_value=transpose)
        )
    return graph.initializers[other]
