"""The passes in a fused graph are those of the engine, in every runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from pnp_ovss.engine import Segmenter, Settings
from pnp_ovss.engine.inputs.images import load_rgb, model_input
from pnp_ovss.engine.methods.pnp_ovss.fused import caption_inputs
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.export.fused import Fused, write_fused
from pnp_ovss.export.fused.compose import Composition
from pnp_ovss.export.fused.passes import _drop
from pnp_ovss.export.graphs.builder import FLOAT
from pnp_ovss.kernels import reference
from tests import thresholds
from tests.conftest import SAMPLES, Exported
from tests.export.fused.hosts import HOSTS, off

PAPER = Settings(crf=None)
CLASSES = {
    "demo": [["turtle", "umbrella", "sand", "hot dog"], ["cat"], ["birthday cake", "penguin"]],
    "random": [["cat", "potted plant", "sofa"], ["traffic light"], ["sky", "an old tree"]],
}
SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "one pass": {"passes": 1},
    "released": {
        "drop_schedule": 10,
        "first_pass_weight": 2,
        "sum_last_class": True,
        "join_words": False,
    },
    "ties": {"passes": 2, "drop_schedule": 255},
    "all dropped": {"passes": 8, "drop_mode": "attention"},
    "nothing dropped": {"passes": 3, "drop_schedule": 0},
    "attention": {"drop_mode": "attention", "drop_schedule": 7, "first_pass_weight": 3},
}


@pytest.mark.parametrize("count", [1, 10, 25])
@pytest.mark.parametrize("host", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def test_of_equal_scores_the_lower_index_is_dropped(tmp_path: Path, host: str, count: int):
    images, patches, left = 40, 30, 25
    graph = Composition()
    scores = graph.input("scores", FLOAT, ["batch", 1, patches])
    keep = graph.input("keep", FLOAT, ["batch", patches])
    after = _drop(graph, scores, keep, patches, count)
    model = graph.finish([scores, keep], {"after": (after, ["batch", patches])})
    ir.save(model, tmp_path / "drop.onnx")
    random = np.random.default_rng(count)
    given = random.integers(0, 3, (images, patches)).astype(np.float32)  # zeros, and equal ones
    before = random.permuted(np.tile(np.arange(patches) >= left, (images, 1)), axis=1)
    feeds = {"scores": given[:, None], "keep": (~before).astype(np.float32)}
    found = HOSTS[host](tmp_path / "drop.onnx", feeds)["after"]
    np.testing.assert_array_equal(found == 0, reference.drop_salient(given, before, count))


def batch(folder: Path | str, settings: Settings, path: Path) -> tuple[Path, dict[str, Any]]:
    """Write a fused graph; return its path, and the inputs of the samples with other captions."""
    model = open_model(folder)
    write_fused(model, Fused(settings=settings), path)
    pixels = [model_input(load_rgb(one), model.manifest.preprocess) for one in samples()]
    classes = CLASSES["demo" if folder == "demo" else "random"]
    return path, {"pixel_values": np.stack(pixels), **caption_inputs(model, classes, settings)}


def samples() -> list[Path]:
    return sorted(SAMPLES.glob("*.jpg"))


def check(
    folder: Path | str, found: dict[str, np.ndarray], settings: Settings, limit: float
) -> None:
    """Hold a batch to the engine, which segments image by image."""
    with Segmenter.load(folder, backend="onnxruntime", device="cpu") as segmenter:
        classes = CLASSES["demo" if folder == "demo" else "random"]
        for row, (image, names) in enumerate(zip(samples(), classes, strict=True)):
            wanted = segmenter.segment(image, names, settings=settings)
            maps = found["class_maps"][row]
            assert off(maps[: len(names)], wanted.class_maps) < limit
            assert not maps[len(names) :].any()  # classes of padding
            assert np.abs(found["match"][row] - wanted.match).max() < thresholds.MATCH


def test_a_batch_by_onnxruntime(exported: Exported, tmp_path: Path):
    settings = replace(PAPER, passes=3, drop_schedule=30)
    path, feeds = batch(exported.folder, settings, tmp_path / "segment.onnx")
    found = HOSTS["onnxruntime"](path, feeds)
    check(exported.folder, found, settings, thresholds.FUSED)


def test_a_patch_without_salience_is_dropped():
    """By the settings "ties": of those that score 0, the one of the lowest index."""
    with Segmenter.load("demo", backend="onnxruntime", device="cpu") as segmenter:
        one_pass = replace(PAPER, passes=1)
        maps = segmenter.segment(samples()[1], CLASSES["demo"][1], settings=one_pass).class_maps
    assert np.count_nonzero(maps.sum(axis=0)) < SETTINGS["ties"]["drop_schedule"] < maps[0].size


CASES = [
    *(("demo", name) for name in SETTINGS),
    ("random", "paper"),
    ("random", "all dropped"),
    ("float16", "released"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("which", "name"), CASES)
def test_every_runtime(
    exported: Exported, exported_in_float16: Path, tmp_path: Path, which: str, name: str
):
    folders = {"random": exported.folder, "float16": exported_in_float16}
    folder, settings = folders.get(which, which), replace(PAPER, **SETTINGS[name])
    path, feeds = batch(folder, settings, tmp_path / "segment.onnx")
    for host in HOSTS.values():
        check(folder, host(path, feeds), settings, thresholds.FUSED)
