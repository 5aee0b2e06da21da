from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import fx, nn

from benchmarks.harness.random_models import random_blip
from pnp_ovss.engine import ModelError
from pnp_ovss.engine.precision import Precision
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.export.build.torch_graph import torch_module
from pnp_ovss.export.graphs import builder as graphs
from pnp_ovss.export.graphs.precision import LOW, convert
from pnp_ovss.export.models.blip.salience import salience_graph
from pnp_ovss.export.models.blip.vision import vision_graph
from pnp_ovss.export.validate import relative_error
from tests import thresholds
from tests.conftest import TEXT, Exported
from tests.conftest import VISION as VISION_SHAPE
from tests.feeds import by_picture, graph_file, salience_feeds, vision_feeds, vision_tokens_feeds


def run(
    module: fx.GraphModule, feeds: dict[str, np.ndarray], *, captions: int | None = None
) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {k: v.numpy() for k, v in module(**by_picture(feeds, captions)).items()}


def check(model: ir.Model, path: Path, cases: Sequence[dict[str, np.ndarray]]) -> None:
    """Hold a graph's module to ONNX Runtime on the graph as saved at `path`."""
    module, runner = torch_module(model), OnnxRuntimeRunner(path)
    for feeds in cases:
        wanted, found = runner.run(feeds), run(module, feeds)
        assert list(found) == list(wanted)
        for name, value in wanted.items():
            assert found[name].shape == value.shape
            assert relative_error(found[name], value) < thresholds.TORCH_GRAPH, name


@pytest.mark.parametrize("batch", [1, 3])
def test_image_encoder_is_that_of_onnxruntime(exported: Exported, batch: int):
    path = graph_file(exported.folder, "vision")
    check(ir.load(path), path, [vision_feeds(batch)])


@pytest.mark.parametrize(("batch", "kept"), [(1, 1), (1, 37), (3, 19)])
def test_image_encoder_of_some_tokens_is_that_of_onnxruntime(
    exported: Exported, batch: int, kept: int
):
    path = graph_file(exported.folder, "vision_tokens")
    check(ir.load(path), path, [vision_tokens_feeds(batch, kept)])


@pytest.mark.parametrize("tokens", [2, 6, 17])
@pytest.mark.parametrize(("batch", "images"), [(1, 1), (3, 3), (3, 1)])
def test_matching_branch_is_that_of_onnxruntime(
    exported: Exported, batch: int, images: int, tokens: int
):
    path = graph_file(exported.folder, "salience")
    check(ir.load(path), path, [salience_feeds(batch, images, tokens)])


@pytest.mark.parametrize(("layers", "heads"), [([0, 1, 2, 3], [0, 1, 2, 3]), ([1, 3], [2])])
@pytest.mark.parametrize("separate", [False, True])
def test_any_layers_and_heads(layers, heads, separate: bool, tmp_path: Path):
    blip = random_blip(VISION_SHAPE, TEXT, seed=4).requires_grad_(False)
    model = salience_graph(blip, layers, heads, separate=separate)
    graphs.save(model, tmp_path / "salience.onnx")
    feeds = salience_feeds(3, 3, 6, patches=16)
    check(model, tmp_path / "salience.onnx", [feeds])


def test_weights_stored_as_float16(tmp_path: Path):
    blip = random_blip(VISION_SHAPE, TEXT, seed=4).requires_grad_(False).half()
    for name, model, feeds in (
        ("vision", vision_graph(blip), vision_feeds(2, side=64)),
        ("tokens", vision_graph(blip, token_subset=True), vision_tokens_feeds(2, 9, side=64)),
        ("salience", salience_graph(blip, [2], [3]), salience_feeds(2, 2, 6, patches=16)),
    ):
        graphs.save(model, tmp_path / f"{name}.onnx")
        check(model, tmp_path / f"{name}.onnx", [feeds])


@pytest.mark.parametrize("precision", LOW)
def test_low_precision(exported: Exported, precision: Precision):
    for graph, feeds in (
        ("vision", vision_feeds(2)),
        ("vision_tokens", vision_tokens_feeds(2, 19)),
        ("salience", salience_feeds(4, 4, 9)),
    ):
        model = ir.load(graph_file(exported.folder, graph))
        wanted = OnnxRuntimeRunner(graph_file(exported.folder, graph)).run(feeds)
        low = convert(model, precision)
        assert count(low) == count(model)
        for name, found in run(torch_module(low), feeds).items():
            assert found.dtype == np.float32
            error = relative_error(found, wanted[name])
            assert 1e-5 < error < thresholds.TORCH_LOW[precision], name


def test_several_captions_of_each_of_several_pictures(exported: Exported):
    """Which ONNX's broadcasting cannot say: it gives what every caption gives alone."""
    module = torch_module(ir.load(graph_file(exported.folder, "salience")))
    one, two = salience_feeds(3, 1, 6, seed=1), salience_feeds(3, 1, 6, seed=2)
    together = {name: np.concatenate([one[name], two[name]]) for name in one}
    parts = [run(module, feeds) for feeds in (one, two)]
    for name, found in run(module, together, captions=3).items():
        wanted = np.concatenate([part[name] for part in parts])
        assert relative_error(found, wanted) < thresholds.TORCH_GRAPH


def test_weights_are_not_copied(exported: Exported):
    model = ir.load(graph_file(exported.folder, "salience"))
    weights = torch_module(model).state_dict()
    mapped = {
        name: value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    assert len(mapped) > 20
    for name, memory in mapped.items():
        assert np.shares_memory(weights[name.replace(".", "/")].numpy(), memory)


def count(model: ir.Model) -> tuple[int, int]:
    """Attentions that are fused, and softmaxes that are not."""
    called = [getattr(node.target, "__name__", "") for node in torch_module(model).graph.nodes]
    return sum(name.lstrip("_").startswith("attend") for name in called), called.count("_softmax")


def test_attention_is_fused_wherever_nothing_else_reads_its_probabilities(exported: Exported):
    for graph in ("vision", "vision_tokens"):
        assert count(ir.load(graph_file(exported.folder, graph))) == (
            VISION_SHAPE["num_hidden_layers"],
            0,
        )
    # of four layers the third is read: its cross-attention, and all of the fourth, has a gradient
    assert count(ir.load(graph_file(exported.folder, "salience"))) == (5, 3)


ATTENTIONS = {
    "as exported": {},
    "with a bias": {"bias": True},
    "not scaled": {"scale": None},
    "scaled by a tensor": {"scale": "tensor"},
    "softmax in another precision": {"cast": True, "bias": True},
}
NOT_FUSED = {
    "probabilities are read": {"read": "probabilities"},
    "scores are read": {"read": "scores"},
}


def attention(
    *, scale: str | None = "number", bias: bool = False, cast: bool = False, read: str | None = None
) -> ir.Model:
    """A graph of one attention, written in one of the ways that a graph may have it."""
    graph = graphs.Graph(nn.Module())
    shape = ["batch", 2, 5, 8]
    query, key, value = inputs = [graph.input(name, graphs.FLOAT, shape) for name in "qkv"]
    if scale == "number":
        query = graph.Mul(query, graph.scalar(0.3))
    if scale == "tensor":
        factors = ir.tensor(np.full(8, 0.3, np.float32), name="factors")
        query = graph.Mul(query, graph.initializer(factors))
    scores = graph.MatMul(query, graph.Transpose(key, perm=[0, 1, 3, 2]))
    if bias:
        inputs.append(graph.input("bias", graphs.FLOAT, ["batch", 1, 1, 5]))
        scores = graph.Add(scores, inputs[-1])
    if cast:
        scores = graph.Cast(graph.Cast(scores, to=ir.DataType.DOUBLE), to=graphs.FLOAT)
    probabilities = graph.Softmax(scores, axis=-1)
    outputs = {"out": (graph.MatMul(probabilities, value), shape)}
    if read:
        other = {"probabilities": probabilities, "scores": scores}[read]
        outputs[read] = (graph.Exp(other), ["batch", 2, 5, 5])
    return graph.finish(inputs, outputs)


@pytest.mark.parametrize("form", [*ATTENTIONS, *NOT_FUSED])
def test_every_form_of_attention(form: str, tmp_path: Path):
    model = attention(**{**ATTENTIONS, **NOT_FUSED}[form])
    fused = form in ATTENTIONS
    assert count(model) == (fused, not fused)
    random = np.random.default_rng(0)
    feeds = {n: random.normal(size=(2, 2, 5, 8)).astype(np.float32) for n in "qkv"}
    if ATTENTIONS.get(form, {}).get("bias"):
        feeds["bias"] = random.normal(size=(2, 1, 1, 5)).astype(np.float32)
    graphs.save(model, tmp_path / "attention.onnx")
    check(model, tmp_path / "attention.onnx", [feeds])


def test_unknown_operator_is_refused():
    graph = graphs.Graph(nn.Module())
    x = graph.input("x", graphs.FLOAT, ["batch", 3])
    model = graph.finish([x], {"y": (graph.Tan(x), ["batch", 3])})
    with pytest.raises(ModelError, match="Tan"):
        torch_module(model)


def test_picture_may_meet_captions_only_as_it_is_known_to():
    """Broadcasting would take one caption's row for another's picture."""
    graph = graphs.Graph(nn.Module())
    picture = graph.input("picture", graphs.FLOAT, ["images", 3])
    caption = graph.input("caption", graphs.FLOAT, ["batch", 3])
    model = graph.finish([picture, caption], {"y": (graph.Sub(caption, picture), ["batch", 3])})
    with pytest.raises(ModelError, match="Sub"):
        torch_module(model)
