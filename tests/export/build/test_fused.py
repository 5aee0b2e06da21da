"""Builds of a fused graph."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pnp_ovss.engine import Settings
from pnp_ovss.engine.inputs.names import clean_names
from pnp_ovss.engine.methods.pnp_ovss.fused import caption_inputs
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import find_model, open_model
from pnp_ovss.engine.model.signature import Graph
from pnp_ovss.export.build import tensorrt
from pnp_ovss.export.build.torch_graph import torch_module
from pnp_ovss.export.fused import Fused, add_fused, write_fused
from pnp_ovss.export.graphs.builder import FLOAT
from pnp_ovss.export.graphs.loading import load
from pnp_ovss.export.graphs.precision import convert
from tests import thresholds
from tests.conftest import Exported
from tests.export.fused.hosts import HOSTS, off

CLASSES = [["cat"], ["potted plant", "sofa", "sky"]]
FUSED: dict[str, Fused] = {
    "labels of pixels": Fused(
        settings=Settings(passes=2, background="auto"), output_size=(48, 40), uint8=True
    ),
    "fixed classes": Fused(
        settings=Settings(passes=2, drop_mode="attention"),
        classes=tuple(clean_names([["cat", "dog"], "sky"])),
    ),
}


def feeds(model: Any, fused: Fused) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    normalized = images.transpose(0, 3, 1, 2) / np.float32(99)
    given = {"pixels": images} if fused.uint8 else {"pixel_values": normalized}
    return given if fused.classes else given | caption_inputs(model, CLASSES, fused.settings)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.slow
@pytest.mark.parametrize("fused", FUSED.values(), ids=FUSED)
def test_as_a_pytorch_module(exported: Exported, tmp_path: Path, fused: Fused, precision: Any):
    model, path = open_model(exported.folder), tmp_path / "segment.onnx"
    write_fused(model, fused, path)
    given = feeds(model, fused)
    wanted = HOSTS["onnxruntime"](path, given)
    module = torch_module(convert(load(path), precision), None)
    with torch.no_grad():
        found = module(**{name: torch.from_numpy(value) for name, value in given.items()})
    limit = thresholds.TORCH_GRAPH if precision == "fp32" else thresholds.TORCH_LOW["fp16"]
    assert off(found["class_maps"].numpy(), wanted["class_maps"]) < limit
    assert found["class_maps"].dtype == torch.float32
    if "labels" in wanted and precision == "fp32":
        np.testing.assert_array_equal(found["labels"].numpy(), wanted["labels"])


def test_products_of_maps_stay_in_float32(exported: Exported, tmp_path: Path):
    """In every precision; salience may be below what float16 holds."""
    path = tmp_path / "segment.onnx"
    write_fused(open_model(exported.folder), FUSED["labels of pixels"], path)
    low = convert(load(path), "fp16").graph
    found: Any = {str(value.name): value for value in low.outputs}
    product = found["class_maps"].producer().inputs[0].producer()
    assert product.op_type == "MatMul"
    given = [value.producer() for value in product.inputs]
    assert "Cast" not in [node.op_type for node in given if node]
    matrices = [value for value in low.initializers.values() if 48 in (value.shape or ())]
    assert matrices
    assert {value.dtype for value in matrices} == {FLOAT}


def test_profiles_have_one_number_of_classes():
    graph = Graph(
        file="",
        weights=[],
        inputs={},
        outputs={},
        roles={"batch": "rows", "tokens": "padded", "classes": "classes"},
        lengths={"tokens": [16, 32], "classes": [32]},
    )
    assert builds.profiles(graph, [1, 4]) == [
        {"batch": batch, "tokens": tokens, "classes": 32} for batch in (1, 4) for tokens in (16, 32)
    ]
    assert builds.profiles(graph, [1], {"tokens": [8], "classes": [2, 3]}) == [
        {"batch": 1, "tokens": 8, "classes": classes} for classes in (2, 3)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_builds_that_of_the_demo(tmp_path: Path, precision: Any):
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    folder = Path(shutil.copytree(find_model("demo"), tmp_path / "demo"))
    model = open_model(folder)
    add_fused(folder, Fused(settings=model.manifest.settings, output_size=(48, 64), uint8=True))
    model = open_model(folder)
    assert "segment" in builds.graphs_to_build(model, {"drop_mode": "pixels"})
    (built,) = tensorrt.build(
        model,
        target="tensorrt-rtx",
        precision=precision,
        batches=[1],
        tokens=[16],
        architectures=["sm_86"],
        graphs=["segment"],
    )
    assert built.path.stat().st_size < 60e6
    assert built.record.recipe.profiles == [{"batch": 1, "tokens": 16, "classes": 64}]
