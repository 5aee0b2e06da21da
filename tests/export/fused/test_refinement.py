"""Labels by a graph are those of the engine without a CRF, on every pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from pnp_ovss.engine import Settings
from pnp_ovss.engine.refine import refine
from pnp_ovss.export.fused import refinement
from pnp_ovss.export.fused.compose import Composition
from pnp_ovss.export.graphs.builder import FLOAT
from tests.export.fused.hosts import HOSTS

GRID, SIZE = (4, 5), (48, 50)
PLAIN = Settings(crf=None)


def written(path: Path, settings: Settings, size: tuple[int, int] = SIZE) -> Path:
    """A graph of the refinement alone."""
    graph = Composition()
    maps = graph.input("class_maps", FLOAT, ["batch", "classes", *GRID])
    tokens = graph.input("class_tokens", FLOAT, ["batch", "classes", "tokens"])
    labels = refinement.labels(graph, maps, tokens, GRID, size, settings)
    labels.dtype = refinement.LABELS
    ir.save(graph.finish([maps, tokens], {"labels": (labels, ["batch", *size])}), path)
    return path


def cases() -> list[np.ndarray]:
    """Maps of classes [C, gh, gw] of every kind that there is."""
    random = np.random.default_rng(0)
    made = [random.random((classes, *GRID)) for classes in (1, 2, 3, 5)]
    sparse = [maps * (random.random(maps.shape) < 0.3) for maps in made]
    spot = np.zeros((2, *GRID))
    spot[0, 1, 2] = 1
    return [
        one.astype(np.float32)
        for one in (
            *made,
            *sparse,
            np.zeros((2, *GRID)),
            np.ones((1, *GRID)),
            spot,
            np.stack([spot[0], spot[0], made[0][0]]),  # two are equal
            made[1] * 1e-12,
            sparse[2] * 1e-30,
            made[1] * 1e-4 + 1,  # little contrast
            1 + spot * 1e-6,  # constant up to rounding
        )
    ]


def disagreeing(host: str, path: Path, settings: Settings) -> list[int]:
    """Pixels of each case with another label than by the engine; all cases in one batch."""
    given = cases()
    most = max(map(len, given))
    maps = np.zeros((len(given), most, *GRID), np.float32)
    tokens = np.zeros((len(given), most, 3), np.float32)
    for row, one in enumerate(given):
        maps[row, : len(one)] = one
        tokens[row, : len(one), 1] = 0.5
    found = HOSTS[host](path, {"class_maps": maps, "class_tokens": tokens})["labels"]
    assert found.dtype == np.int32
    image = Image.new("RGB", (SIZE[1], SIZE[0]))
    return [
        int((labels != refine(image, one, settings)).sum())
        for labels, one in zip(found, given, strict=True)
    ]


CHANGES: list[dict[str, Any]] = [
    {},
    {"background": "never"},
    {"background": "auto"},
    {"threshold": 0.0},
    {"threshold": 1.0, "background": "auto"},
    {"blur": 0.0},
    {"blur": 0.0, "background": "never"},
    {"blur": 0.2},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_labels_are_those_of_the_engine(tmp_path: Path, changes: dict[str, Any]):
    settings = replace(PLAIN, **changes)
    path = written(tmp_path / "graph.onnx", settings)
    assert disagreeing("onnxruntime", path, settings) == [0] * len(cases())


@pytest.mark.slow
@pytest.mark.parametrize("changes", CHANGES)
def test_labels_by_openvino(tmp_path: Path, changes: dict[str, Any]):
    settings = replace(PLAIN, **changes)
    path = written(tmp_path / "graph.onnx", settings)
    assert disagreeing("openvino", path, settings) == [0] * len(cases())


def test_as_large_as_the_grid(tmp_path: Path):
    """Interpolation matrices are square then."""
    path = written(tmp_path / "graph.onnx", PLAIN, GRID)
    maps = np.random.default_rng(1).random((1, 3, *GRID)).astype(np.float32)
    feeds = {"class_maps": maps, "class_tokens": np.ones((1, 3, 2), np.float32)}
    wanted = refine(Image.new("RGB", (GRID[1], GRID[0])), maps[0], PLAIN)
    np.testing.assert_array_equal(HOSTS["onnxruntime"](path, feeds)["labels"][0], wanted)
