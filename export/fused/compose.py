"""Composes a graph of copies of other graphs, in which nothing is computed twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
from onnx_ir.convenience import convert_attributes

from ..graphs.builder import Operators


class Composition(Operators):
    """A graph under construction, with value numbering.

    The same operator on the same inputs with the same attributes gives the same value, whose node
    is appended once. So a graph may be copied for each pass: what does not depend on the pass, such
    as the embedding of tokens and the casts of weights, is there once.

    Weights in a file stay there: the composed graph refers to the same place.
    """

    def __init__(self) -> None:
        super().__init__()
        self._numbered: dict[object, Sequence[ir.Value]] = {}
        self._names: set[str] = set()

    def append(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any],
        outputs: int = 1,
    ) -> Sequence[ir.Value]:
        """Append a node, unless there is one like it; return its outputs."""
        of_node = sorted((one.name, _hashable(one.value)) for one in convert_attributes(attributes))
        key = (op_type, tuple(inputs), tuple(of_node), outputs)
        if key not in self._numbered:
            self._numbered[key] = super().append(op_type, inputs, attributes, outputs)
        return self._numbered[key]

    def copy(self, graph: ir.Graph, inputs: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        """Append the nodes of a graph.

        Args:
            graph: graph of the standard's operators.
            inputs: value for each input of the graph, by its name.

        Returns:
            Value of each output of the graph, by its name.
        """
        values: dict[ir.Value | None, ir.Value | None] = {None: None}
        values.update((value, inputs[str(value.name)]) for value in graph.inputs)
        values.update((value, self._stored(value)) for value in graph.initializers.values())
        for node in graph:
            attributes = {name: attribute.value for name, attribute in node.attributes.items()}
            given = [values[value] for value in node.inputs]
            outputs = self.append(node.op_type, given, attributes, len(node.outputs))
            values.update(zip(node.outputs, outputs, strict=True))
        return {str(value.name): _found(values[value]) for value in graph.outputs}

    def _stored(self, value: ir.Value) -> ir.Value:
        """Return the initializer for that of another graph."""
        tensor = _found(value.const_value)
        if not isinstance(tensor, ir.ExternalTensor):
            return self.constant(tensor.numpy())
        place = (tensor.location, tensor.offset, tensor.length, tensor.dtype)
        key = (*place, tuple(tensor.shape.numpy()))
        if key not in self._values:
            name = str(value.name)
            if name in self._names:  # of a weight of another graph
                name = f"{name}.{len(self._names)}"
            self._names.add(name)
            self._values[key] = self.initializer(tensor, name)
        return self._values[key]


def _found(value: Any) -> Any:
    assert value is not None
    return value


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
