from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from pnp_ovss.engine.artifact import SALIENCE, VISION, VISION_TOKENS
from pnp_ovss.export import blocks, graph, validate
from pnp_ovss.export.salience_graph import salience_graph
from pnp_ovss.export.vision_graph import vision_graph

from benchmarks.random_models import random_blip
from tests import thresholds
from tests.conftest import TEXT
from tests.conftest import VISION as VISION_SHAPE

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
    (folder / "onnx").mkdir()
    graph.save(vision_graph(model), folder / VISION)
    some_tokens = vision_graph(model, of_kept=True)
    graph.save_sharing(some_tokens, folder / VISION_TOKENS, folder / VISION)
    graph.save(salience_graph(model, layers, heads, separate=separate), folder / SALIENCE)


@pytest.mark.parametrize("shape", SHAPES)
def test_graphs_agree_with_autograd_for_any_shape(shape: str, tmp_path: Path):
    vision, text = ({**VISION_SHAPE, **SHAPES[shape][0]}, {**TEXT, **SHAPES[shape][1]})
    model = random_blip(vision, text, seed=3).requires_grad_(False)
    layer = text["num_hidden_layers"] // 2
    head = text["num_attention_heads"] - 1
    write_graphs(model, tmp_path, [layer], [head], False)
    errors = validate.export_error(model, tmp_path, [layer], [head], separate=False, seed=5)
    assert max(errors.values()) < thresholds.SALIENCE


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(
    ("layers", "heads"), [([0], [1]), ([3], [0]), ([0, 2], [0, 3]), ([0, 1, 2, 3], [0, 1, 2, 3])]
)
def test_any_layers_and_heads(layers, heads, separate: bool, tmp_path: Path):
    model = random_blip(VISION_SHAPE, TEXT, seed=4).requires_grad_(False)
    write_graphs(model, tmp_path, layers, heads, separate)
    errors = validate.export_error(model, tmp_path, layers, heads, separate=separate, seed=6)
    assert max(errors.values()) < thresholds.SALIENCE


def test_validation_notices_another_head(tmp_path: Path):
    model = random_blip(VISION_SHAPE, TEXT).requires_grad_(False)
    write_graphs(model, tmp_path, [2], [3], False)
    errors = validate.export_error(model, tmp_path, [2], [2], separate=False)
    assert errors["itm_logits"] < thresholds.SALIENCE
    assert errors["salience"] > 0.1


def test_validation_notices_padding_that_is_attended_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(blocks, "MASKED", 0.0)
    model = random_blip(VISION_SHAPE, TEXT).requires_grad_(False)
    write_graphs(model, tmp_path, [2], [3], False)
    errors = validate.export_error(model, tmp_path, [2], [3], separate=False)
    assert errors["image_embeds"] < thresholds.SALIENCE
    assert errors["kept_embeds"] > 0.01


def test_validation_notices_what_is_not_finite():
    assert validate.relative_error(np.array([np.nan]), np.array([0.0])) == np.inf
    assert validate.relative_error(np.zeros(3), np.zeros(3)) == 0


def test_graph_stores_each_weight_once_and_passes_the_checker(tmp_path: Path):
    model = random_blip(VISION_SHAPE, TEXT).requires_grad_(False)
    write_graphs(model, tmp_path, [0], [0], False)
    onnx.checker.check_model(str(tmp_path / SALIENCE), full_check=True)
    onnx.checker.check_model(str(tmp_path / VISION), full_check=True)
    onnx.checker.check_model(str(tmp_path / VISION_TOKENS), full_check=True)
    weights = sum(p.numel() for p in model.text_encoder.parameters()) + 2 * (64 + 1)
    stored = (tmp_path / f"{SALIENCE}_data").stat().st_size
    assert stored == pytest.approx(4 * weights, rel=0.01)


def test_graph_has_no_node_that_tensorrt_refuses(tmp_path: Path):
    model = random_blip(VISION_SHAPE, TEXT).requires_grad_(False)
    write_graphs(model, tmp_path, [0], [0], False)
    for name in (VISION, VISION_TOKENS, SALIENCE):
        nodes = onnx.load(str(tmp_path / name), load_external_data=False).graph.node
        assert not [n for n in nodes if n.op_type.startswith("Scatter")]
        assert not [n for n in nodes if n.op_type == "LayerNormalization" and len(n.output) > 1]
