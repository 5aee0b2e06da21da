from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.baselines import full_size_blur
from benchmarks.harness.records import machine
from benchmarks.measures import refinement
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.refine.channels import lines
from pnp_ovss.engine.settings import Settings
from tests import thresholds

ABOUT = {"machine": machine("cpu"), "command": "python -m benchmarks refinement"}


def test_every_part_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refinement, "SIZES", ((60, 40),))
    monkeypatch.setattr(refinement, "PHOTOGRAPH", (60, 40))
    monkeypatch.setattr(refinement, "PHOTOGRAPH_SIDES", (30,))
    monkeypatch.setattr(refinement, "SCENE_SIDES", {1: (64,), 2: (128,)})
    rows: list[dict[str, Any]] = list(refinement.measure(1, 2, ABOUT, lambda _: None))
    assert [row["what"] for row in rows] == ["labels", "resize", "photograph", "quality", "quality"]
    assert rows[0]["same"] == 1
    assert rows[2]["peak_mb"] > 50
    assert rows[4]["pixels"] == 512
    for row in rows[3:]:
        assert 0.3 < row["miou"] <= 1
    table = refinement.table(rows)
    assert "| --refine-side 30 |" in table
    assert "| 60x40 |" in table


def test_the_baseline_gives_the_same_labels() -> None:
    maps = np.random.default_rng(0).random((3, 24, 24), np.float32) ** 8
    maps -= maps.min(axis=(1, 2), keepdims=True)  # it scaled maps before it kept what was above
    settings = Settings(crf=None)
    matrices = lines((24, 24), (150, 200), settings, classes=3)
    numbers = np.arange(4, dtype=np.uint16)
    wanted = CPU.kernels.labels(maps, matrices, settings.threshold, numbers)
    found = full_size_blur.labels(maps, 150, 200, settings)
    assert (found != wanted).mean() <= thresholds.LABELS_OF_STEPS
