from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
import torch
from torch import nn

from benchmarks.harness.resident import resident_growth
from benchmarks.measures.live_tensors import GraphMemory, graph_memory
from pnp_ovss.engine.model.signature import Signature
from pnp_ovss.export.graphs import builder, loading
from pnp_ovss.export.graphs.precision import convert
from tests import thresholds
from tests.conftest import Exported

ROWS, WIDTH, WIDER = 3, 4, 8


def graph_of(module: nn.Linear) -> ir.Model:
    """wide = x @ w, and y = wide @ (wide as a column of rows)."""
    g = builder.Graph(module)
    x = g.input("x", builder.FLOAT, ["batch", module.in_features])
    wide = g.MatMul(x, g.weight(module.weight, transpose=True))
    view = g.Reshape(wide, g.ints(module.out_features, -1))
    return g.finish([x], {"y": (g.MatMul(wide, view), ["batch", "batch"])})


def signature_of(model: ir.Model) -> Signature:
    inputs, outputs = builder.signature(model)
    return Signature(inputs=inputs, outputs=outputs, roles={"batch": "rows"})


@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_a_small_graph(stored: torch.dtype) -> None:
    model = graph_of(nn.Linear(WIDTH, WIDER, bias=False).to(stored))
    weights = 4 * WIDTH * WIDER + 8 * 2  # in float32, as it is used; and the shape of the view
    x, wide, y = 4 * ROWS * WIDTH, 4 * ROWS * WIDER, 4 * ROWS * ROWS
    found = graph_memory(model, signature_of(model), {"batch": ROWS})
    assert found == GraphMemory(weights, x + wide + y)


def test_what_is_dead_is_not_counted() -> None:
    module = nn.Linear(WIDTH, WIDER, bias=False)
    g = builder.Graph(module)
    x = g.input("x", builder.FLOAT, ["batch", WIDTH])
    value = g.MatMul(x, g.weight(module.weight, transpose=True))
    for _ in range(5):
        value = g.Softmax(value)
    model = g.finish([x], {"y": (g.ReduceMean(value), ["batch", 1])})
    found = graph_memory(model, signature_of(model), {"batch": ROWS})
    assert found.activations == 4 * ROWS * (WIDTH + 2 * WIDER)


def test_it_is_what_onnx_runtime_takes(tmp_path: Path) -> None:
    model = graph_of(nn.Linear(64, 2048, bias=False))
    signature, calls = signature_of(model), [{"batch": 1024}, {"batch": 2048}]
    path, _ = builder.save(model, tmp_path / "graph.onnx")
    grown = resident_growth(path, signature, calls, reuse=False)
    for sizes, measured in zip(calls, grown, strict=True):
        calculated = graph_memory(model, signature, sizes).activations
        assert measured == pytest.approx(calculated, rel=thresholds.LIVE_TENSORS)


@pytest.mark.parametrize("graph", ["vision", "salience"])
def test_bfloat16_takes_what_float16_does(exported: Exported, graph: str) -> None:
    made = loading.load(exported.folder / "onnx" / f"{graph}.onnx")
    inputs, outputs = builder.signature(made)
    signature = Signature(inputs=inputs, outputs=outputs)
    sizes = {"batch": 2, "images": 2, "tokens": 16}
    half, brain = (
        graph_memory(convert(made, precision), signature, sizes) for precision in ("fp16", "bf16")
    )
    assert half == brain
    assert half.weights < 0.6 * graph_memory(made, signature, sizes).weights
