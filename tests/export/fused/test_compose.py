"""Value numbering: what is the same is computed once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from pnp_ovss.export.fused.compose import Composition
from pnp_ovss.export.graphs.builder import FLOAT


@pytest.fixture
def doubled() -> ir.Graph:
    """y = relu(2 * x) + split halves of a weight."""
    graph = Composition()
    x = graph.input("x", FLOAT, ["rows", 2])
    weight = graph.initializer(ir.tensor(np.arange(4, dtype=np.float32), name="weight"))
    first, second = graph.append("Split", [weight], {"axis": 0, "num_outputs": 2}, 2)
    y = graph.Add(graph.Relu(graph.Mul(x, graph.scalar(2.0))), graph.Sub(first, second))
    return graph.finish([x], {"y": (y, ["rows", 2])}).graph


def kinds(graph: Composition) -> list[str]:
    return [node.op_type for node in graph.nodes]


def test_a_copy_of_the_same_inputs_is_that_copy(doubled: ir.Graph):
    graph = Composition()
    x = graph.input("x", FLOAT, ["rows", 2])
    once = graph.copy(doubled, {"x": x})["y"]
    before = kinds(graph)
    assert graph.copy(doubled, {"x": x})["y"] is once
    assert kinds(graph) == before
    assert sorted(before) == ["Add", "Mul", "Relu", "Split", "Sub"]


def test_of_another_input_only_what_depends_on_it_is_new(doubled: ir.Graph):
    graph = Composition()
    x = graph.input("x", FLOAT, ["rows", 2])
    once = graph.copy(doubled, {"x": x})["y"]
    twice = graph.copy(doubled, {"x": once})["y"]
    assert sorted(kinds(graph)) == sorted(["Split", "Sub", *["Mul", "Relu", "Add"] * 2])
    assert len(graph.initializers) == 2
    import onnxruntime

    model = graph.finish([x], {"y": (twice, ["rows", 2])})
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    given = np.array([[1.0, -3.0]], np.float32)
    wanted = np.maximum(2 * (np.maximum(2 * given, 0) - 2), 0) - 2
    np.testing.assert_array_equal(session.run(None, {"x": given})[0], wanted)


def test_attributes_and_order_of_inputs_count():
    graph = Composition()
    x = graph.input("x", FLOAT, [2, 2])
    assert graph.Softmax(x, axis=0) is graph.Softmax(x, axis=0)
    assert graph.Softmax(x, axis=0) is not graph.Softmax(x, axis=1)
    assert graph.Transpose(x, perm=[1, 0]) is graph.Transpose(x, perm=(1, 0))
    one = graph.scalar(1.0)
    assert graph.Sub(x, one) is not graph.Sub(one, x)
    assert graph.Cast(x, to=FLOAT) is graph.Cast(x, to=int(FLOAT))


def test_weights_in_a_file_stay_there():
    """Those of other graphs may have the same name and lie elsewhere."""

    def graph(location: str) -> ir.Graph:
        stored = ir.ExternalTensor(
            location, 64, 16, FLOAT, shape=ir.Shape([4]), name="w", base_dir="nowhere"
        )
        source = Composition()
        x = source.input("x", FLOAT, ["rows", 4])
        weight = source.initializer(stored)
        return source.finish([x], {"y": (source.Mul(x, weight), ["rows", 4])}).graph

    composed = Composition()
    x = composed.input("x", FLOAT, ["rows", 4])
    for location in ("one", "two", "one"):
        composed.copy(graph(location), {"x": x})
    tensors = {value.name: value.const_value for value in composed.initializers}
    assert len(tensors) == len(composed.initializers) == 2
    places = [(one.location, one.offset) for one in tensors.values()]  # type: ignore[union-attr]
    assert places == [("one", 64), ("two", 64)]
