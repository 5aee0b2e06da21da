"""No graph transposes a square weight, which OpenVINO takes for the weight itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pnp_ovss.engine.model.folder import find_model, open_model
from pnp_ovss.export.graphs.builder import FLOAT, Operators
from pnp_ovss.export.graphs.transposes import store_transposes
from tests import thresholds
from tests.conftest import Exported
from tests.export.fused.hosts import HOSTS, off
from tests.feeds import salience_feeds, vision_feeds, vision_tokens_feeds

SQUARE = np.arange(9).reshape(3, 3)


def graph(weights: np.ndarray, *, name: str = "w", other: np.ndarray | None = None) -> ir.Model:
    """x @ W + x @ W^T, with W stored as it is; under another name W^T may be stored, too."""
    g = Operators()
    x = g.input("x", FLOAT, ["rows", weights.shape[0]])
    stored = g.initializer(ir.tensor(weights, name=name))
    weight = stored if stored.dtype == FLOAT else g.Cast(stored, to=FLOAT)
    both = g.Add(
        g.ReduceSum(g.MatMul(x, weight), g.ints(1)),
        g.ReduceSum(g.MatMul(g.MatMul(x, weight), g.Transpose(weight, perm=[1, 0])), g.ints(1)),
    )
    if other is not None:
        transposed = g.initializer(ir.tensor(other, name=f"{name}.transposed"))
        both = g.Add(both, g.ReduceSum(g.MatMul(x, transposed), g.ints(1)))
    return g.finish([x], {"y": (both, ["rows", 1])})


def run(model: ir.Model) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    shape = session.get_inputs()[0].shape
    x = np.random.default_rng(0).normal(size=(4, shape[1])).astype(np.float32)
    return np.asarray(session.run(None, {"x": x})[0])


def transpositions(model: ir.Model) -> int:
    return sum(node.op_type == "Transpose" for node in model.graph)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", ["w", "w.transposed"])
def test_the_other_form_is_stored_in_the_same_type(dtype: type, name: str):
    wanted = run(graph(SQUARE.astype(dtype), name=name))
    model = graph(SQUARE.astype(dtype), name=name)
    store_transposes(model)
    assert transpositions(model) == 0
    other = model.graph.initializers[{"w": "w.transposed", "w.transposed": "w"}[name]].const_value
    assert other is not None
    np.testing.assert_array_equal(other.numpy(), SQUARE.T.astype(dtype))
    assert other.dtype == ir.DataType.from_numpy(np.dtype(dtype))
    np.testing.assert_allclose(run(model), wanted, rtol=1e-6)


def test_a_form_that_is_stored_already_is_taken():
    weights = SQUARE.astype(np.float32)
    model = graph(weights, other=weights.T.copy())
    before = set(model.graph.initializers)
    wanted = run(model)
    store_transposes(model)
    assert (transpositions(model), set(model.graph.initializers)) == (0, before)
    np.testing.assert_allclose(run(model), wanted, rtol=1e-6)


def test_weights_that_are_not_square_are_left_alone():
    model = graph(np.ones((3, 5), np.float32))
    before = set(model.graph.initializers)
    store_transposes(model)
    assert (transpositions(model), set(model.graph.initializers)) == (1, before)


def test_no_exported_graph_transposes_a_square_weight(
    exported: Exported, exported_in_float16: Path
):
    for folder in (find_model("demo"), exported.folder, exported_in_float16):
        for path in sorted((folder / "onnx").glob("*.onnx")):
            model = onnx.load(path, load_external_data=False)
            shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
            for node in model.graph.node:
                if node.op_type == "Cast" and node.input[0] in shapes:
                    shapes[node.output[0]] = shapes[node.input[0]]
            transposed = [
                shapes[node.input[0]]
                for node in model.graph.node
                if node.op_type == "Transpose" and node.input[0] in shapes
            ]
            assert all(len(set(shape)) == len(shape) for shape in transposed)
            assert transposed or path.stem != "salience"  # others are still there


@pytest.mark.slow
@pytest.mark.parametrize("which", ["demo", "float32", "float16"])
def test_every_graph_gives_the_same_in_every_runtime(
    exported: Exported, exported_in_float16: Path, which: str
):
    folders = {"float32": exported.folder, "float16": exported_in_float16}
    model = open_model(folders.get(which, which))
    side, width = model.manifest.preprocess.sides[0], model.graph("vision").outputs["image_embeds"]
    vision = vision_feeds(2, side=side)
    embeds = HOSTS["onnxruntime"](model.graph_path("vision"), vision)["image_embeds"]
    assert embeds.shape[1:] == width.shape[1:]
    salience = salience_feeds(3, 1, 9, patches=model.manifest.preprocess.patches)
    salience |= {"image_embeds": embeds[:1], "input_ids": salience["input_ids"] % 60}
    feeds = {
        "vision": vision,
        "vision_tokens": vision_tokens_feeds(2, 15, side=side),
        "salience": salience,
    }
    assert feeds.keys() == model.manifest.graphs.keys()
    for name, given in feeds.items():
        wanted = HOSTS["onnxruntime"](model.graph_path(name), given)
        found = HOSTS["openvino"](model.graph_path(name), given)
        for output, value in wanted.items():
            assert off(found[output], value) < thresholds.OPENVINO
