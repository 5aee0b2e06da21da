"""Memory of a graph: its weights, and the tensors that are alive at once."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import NamedTuple

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from pnp_ovss.engine.model.signature import Profile, Signature

_VIEWS = {"Identity", "Reshape", "Squeeze", "Unsqueeze"}  # of their first input's memory


class GraphMemory(NamedTuple):
    """Bytes that a graph takes: its weights, and the most of all tensors that are alive at once."""

    weights: int
    activations: int


def graph_memory(model: ir.Model, signature: Signature, sizes: Profile) -> GraphMemory:
    """Memory of a graph whose nodes run in order, none of them fused or in place.

    Inputs and outputs stay for the whole run. A size that shape inference leaves open, as that of
    a range, counts as the largest of the dynamic ones.

    Args:
        model: a graph. Its shapes are changed.
        signature: of the graph.
        sizes: of its dynamic dimensions.
    """
    graph = model.graph
    for node in graph:
        for value in node.outputs:
            value.shape = None
    for value in graph.inputs:
        value.shape = ir.Shape(signature.inputs[str(value.name)].sized(sizes))
    ShapeInferencePass()(model)
    constants = set(graph.initializers.values())
    for node in graph:  # weights that are stored in another dtype than they are used in
        if all(value is None or value in constants for value in node.inputs):
            constants.update(node.outputs)
    open_size = max(sizes.values())
    nodes = [node for node in graph if node.outputs[0] not in constants]
    used = {value for node in nodes for value in node.inputs if value in constants}
    weights = sum(_size(value, open_size) for value in used)
    return GraphMemory(weights, _most_alive(graph, nodes, open_size))


def _most_alive(graph: ir.Graph, nodes: list[ir.Node], open_size: int) -> int:
    # of a view, the value that it looks at
    memory_of: dict[ir.Value | None, ir.Value] = {value: value for value in graph.inputs}
    for node in nodes:
        viewed = memory_of.get(node.inputs[0]) if node.op_type in _VIEWS else None
        memory_of.update((value, viewed or value) for value in node.outputs)
    users = Counter(
        memory_of[value] for node in nodes for value in node.inputs if value in memory_of
    )
    users.update(memory_of[value] for value in [*graph.inputs, *graph.outputs])
    live = most = sum(_size(value, open_size) for value in graph.inputs)
    for node in nodes:
        made = [value for value in node.outputs if memory_of[value] is value]
        live += sum(_size(value, open_size) for value in made)
        most = max(most, live)
        read = [memory_of[value] for value in node.inputs if value in memory_of]
        users.subtract(read)
        live -= sum(_size(value, open_size) for value in {*read, *made} if not users[value])
    return most


def _size(value: ir.Value, open_size: int) -> int:
    """Bytes of a value."""
    assert value.dtype
    assert value.shape is not None
    sizes = [size if isinstance(size, int) else open_size for size in value.shape]
    return int(prod(sizes) * value.dtype.itemsize)
