from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import BlipForImageTextRetrieval

from benchmarks.harness.random_models import random_blip
from pnp_ovss.engine.errors import ExecutionError, ModelError
from pnp_ovss.export import validate
from pnp_ovss.export.graphs import blocks, builder
from pnp_ovss.export.models import blip
from pnp_ovss.export.models.base import Choice
from tests import thresholds
from tests.conftest import TEXT
from tests.conftest import VISION as VISION_SHAPE

NAMES = ("vision", "salience", "vision_tokens")
SHAPES = {
    "as the fixture": ({}, {}),
    "one of everything": (
        {"num_hidden_layers": 1, "num_attention_heads": 1},
        {"num_hidden_layers": 1, "num_attention_heads": 1},
    ),
    "text wider than vision": ({"hidden_size": 32}, {"hidden_size": 80, "num_attention_heads": 5}),
    "deep text, large patches": (
        {"patch_size": 32, "num_hidden_layers": 2},
        {"num_hidden_layers": 9, "num_attention_heads": 2},
    ),
}


def write_graphs(model, folder: Path, layers: Sequence[int], heads: Sequence[int], separate: bool):
    graphs = blip.graphs(model, Choice(tuple(layers), tuple(heads), separate=separate))
    for name, graph in graphs.items():
        path = folder / f"{name}.onnx"
        if graph.shares:
            builder.save_sharing(graph.model, path, folder / f"{graph.shares}.onnx")
        else:
            builder.save(graph.model, path)


def accuracy(
    model: BlipForImageTextRetrieval,
    folder: Path,
    layers: Sequence[int],
    heads: Sequence[int],
    *,
    separate: bool = False,
    seed: int = 0,
) -> dict[str, validate.Accuracy]:
    graphs = {name: folder / f"{name}.onnx" for name in NAMES}
    choice = Choice(tuple(layers), tuple(heads), separate=separate)
    return validate.accuracy(blip, model, graphs, choice, seed=seed)


@pytest.mark.parametrize("shape", SHAPES)
def test_graphs_agree_with_autograd_for_any_shape(shape: str, tmp_path: Path):
    vision, text = ({**VISION_SHAPE, **SHAPES[shape][0]}, {**TEXT, **SHAPES[shape][1]})
    model = random_blip(vision, text, seed=3).requires_grad_(False)
    layer = text["num_hidden_layers"] // 2
    head = text["num_attention_heads"] - 1
    write_graphs(model, tmp_path, [layer], [head], False)
    outputs = accuracy(model, tmp_path, [layer], [head], separate=False, seed=5)
    assert max(output.graph for output in outputs.values()) < thresholds.SALIENCE


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(
    ("layers", "heads"), [([0], [1]), ([3], [0]), ([0, 2], [0, 3]), ([0, 1, 2, 3], [0, 1, 2, 3])]
)
def test_any_layers_and_heads(layers, heads, separate: bool, tmp_path: Path):
    model = random_blip(VISION_SHAPE, TEXT, seed=4).requires_grad_(False)
    write_graphs(model, tmp_path, layers, heads, separate)
    outputs = accuracy(model, tmp_path, layers, heads, separate=separate, seed=6)
    assert max(output.graph for output in outputs.values()) < thresholds.SALIENCE


def test_validation_notices_another_head(tmp_path: Path):
    model = random_blip(VISION_SHAPE, TEXT).requires_grad_(False)
    write_graphs(model, tmp_path, [2], [3], False)
    outputs = accuracy(model, tmp_path, [2], [2], separate=False)
    assert outputs["salience.itm_logits"].graph < thresholds.SALIENCE
    assert outputs["salience.salience"].graph > 0.1
    with pytest.raises(ExecutionError, match=r"the exported salience\.salience is off"):
        validate.require_accurate(outputs)


def test_validation_notices_padding_that_is_attended_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blocks, "MASKED", 0.0)
    model = random_blip(VISION_SHAPE, TEXT).requires_grad_(False)
    write_graphs(model, tmp_path, [2], [3], False)
    outputs = accuracy(model, tmp_path, [2], [3])
    assert outputs["vision.image_embeds"].graph < thresholds.SALIENCE
    assert outputs["vision_tokens.image_embeds"].graph > 0.01


def test_validation_notices_what_is_not_finite():
    assert validate.relative_error(np.array([np.nan]), np.array([0.0])) == np.inf
    assert validate.relative_error(np.array([0.0]), np.array([np.nan])) == np.inf
    assert validate.relative_error(np.zeros(3), np.zeros(3)) == 0


def with_attention_of(strength: float, seed: int) -> BlipForImageTextRetrieval:
    """A strength of 4 to 16 amplifies rounding; one of 100 leaves each token a single other."""
    model = random_blip(VISION_SHAPE, TEXT, seed=seed).requires_grad_(False)
    for name, weight in model.text_encoder.named_parameters():
        if "query.weight" in name or "key.weight" in name:
            weight.mul_(strength)
    return model


def test_padding_is_masked_beside_large_scores(tmp_path: Path):
    model = with_attention_of(100, 0)
    write_graphs(model, tmp_path, [2], [3], False)
    outputs = accuracy(model, tmp_path, [2], [3])
    validate.require_accurate(outputs)
    assert outputs["salience.salience"].graph < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_a_graph_is_allowed_what_the_rounding_of_its_model_explains(seed: int, tmp_path: Path):
    model = with_attention_of(4, seed)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    write_graphs(model, tmp_path, [2], [3], False)
    outputs = accuracy(model, tmp_path, [2], [3])
    assert outputs["salience.salience"].tolerance > 10 * validate.FLOOR
    validate.require_accurate(outputs)
    for name, weight in model.named_parameters():  # as they were, though PyTorch ran in float64
        assert weight.dtype == torch.float32
        assert torch.equal(weight, before[name])


def test_pytorch_runs_again_before_a_graph_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With a margin that its first run does not give the graph, and a later one does."""
    model = with_attention_of(4, 0)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    write_graphs(model, tmp_path, [2], [3], False)

    def compare(margin: float, repeats: int = validate.REPEATS) -> validate.Accuracy:
        monkeypatch.setattr(validate, "MARGIN", margin)
        monkeypatch.setattr(validate, "REPEATS", repeats)
        outputs = accuracy(model, tmp_path, [2], [3])
        if not outputs["salience.salience"].graph <= outputs["salience.salience"].tolerance:
            with pytest.raises(ExecutionError):
                validate.require_accurate(outputs)
        return outputs["salience.salience"]

    all_runs = compare(0)
    assert len(all_runs.eager) == 1 + validate.REPEATS
    assert len(set(all_runs.eager)) > 1
    first, largest = all_runs.eager[0], max(all_runs.eager[1:])
    assert first < largest
    margin = all_runs.graph / (first + largest) * 2
    enough = compare(margin)
    assert enough.graph <= enough.tolerance
    assert 1 < len(enough.eager) <= 1 + validate.REPEATS
    assert enough.eager == all_runs.eager[: len(enough.eager)]
    once = compare(margin, repeats=0)
    assert once.graph > once.tolerance
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])


def test_it_does_not_run_again_where_that_could_change_nothing(tmp_path: Path):
    model = with_attention_of(4, 0)
    write_graphs(model, tmp_path, [1], [3], False)
    outputs = accuracy(model, tmp_path, [2], [3])
    assert outputs["salience.salience"].graph > validate.LIMIT
    assert len(outputs["salience.salience"].eager) == 1


def test_an_ill_conditioned_model_is_refused(tmp_path: Path):
    model = with_attention_of(8, 1)
    write_graphs(model, tmp_path, [2], [3], False)
    outputs = accuracy(model, tmp_path, [2], [3])
    with pytest.raises(ModelError, match="the model is ill-conditioned"):
        validate.require_accurate(outputs)


@pytest.mark.parametrize(
    ("graph", "eager", "error"),
    [
        (1e-5, [0], None),
        (1.1e-5, [0], ExecutionError),
        (4e-4, [1e-4], None),
        (4.1e-4, [1e-4], ExecutionError),
        (4.1e-4, [1e-5, 2e-4, 1e-5], None),
        (1e-2, [2.5e-3], None),
        (1e-2, [1e-4, 1], None),
        (1.1e-2, [1e-4, 1], ExecutionError),
        (1e-6, [2.6e-3], ModelError),
        (np.inf, [1e-6], ExecutionError),
        (np.nan, [1e-6], ExecutionError),
        (1e-6, [np.inf], ModelError),
        (1e-6, [np.nan], ModelError),
        (np.inf, [np.inf], ModelError),
    ],
)
def test_what_is_tolerated(graph: float, eager: list[float], error: type[Exception] | None):
    outputs = {"itm_logits": validate.Accuracy(graph, tuple(eager))}
    with pytest.raises(error) if error else nullcontext():
        validate.require_accurate(outputs)


def test_graph_stores_each_weight_once_and_passes_the_checker(tmp_path: Path):
    model = random_blip(VISION_SHAPE, TEXT).requires_grad_(False)
    write_graphs(model, tmp_path, [0], [0], False)
    for name in NAMES:
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)
    weights = sum(p.numel() for p in model.text_encoder.parameters()) + 2 * (64 + 1)
    stored = (tmp_path / "salience.onnx_data").stat().st_size
    assert stored == pytest.approx(4 * weights, rel=0.01)


def test_graph_has_no_node_that_tensorrt_refuses(tmp_path: Path):
    model = random_blip(VISION_SHAPE, TEXT).requires_grad_(False)
    write_graphs(model, tmp_path, [0], [0], False)
    for name in NAMES:
        nodes = onnx.load(str(tmp_path / f"{name}.onnx"), load_external_data=False).graph.node
        assert not [n for n in nodes if n.op_type.startswith("Scatter")]
        assert not [n for n in nodes if n.op_type == "LayerNormalization" and len(n.output) > 1]
