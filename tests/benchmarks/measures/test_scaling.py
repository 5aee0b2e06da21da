from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.contenders.base import Task
from benchmarks.harness.prepared import PreparedModel
from benchmarks.harness.records import machine, read, recorded
from benchmarks.measures import scaling
from tests.conftest import SAMPLES, Exported

pytestmark = pytest.mark.slow  # each starts processes that import PyTorch

TASK = Task(SAMPLES / "beach.jpg", ("person", "boat"), passes=2)
CASE = {"image_size": 96, "device": "cpu", "width": 640, "height": 480, "classes": [], "passes": 2}
ABOUT = {
    "case": CASE,
    "model": {"name": "random:blip-tiny"},
    "machine": machine(),
    "command": "python -m benchmarks scaling",
}
NAMES = ["onnxruntime-fp32", "tensorrt-fp16"]


@pytest.fixture
def model(exported: Exported) -> PreparedModel:
    return PreparedModel(str(exported.checkpoint), exported.folder, "cpu")


def test_a_row_for_each_point(
    model: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = {"classes": (1, 3), "passes": (1, 8), "batch": (1, 2)}
    monkeypatch.setattr(scaling, "AXES", axes)
    path = tmp_path / "scaling.jsonl"
    measured = scaling.measure(model, TASK, NAMES, rounds=1, about=ABOUT, say=lambda _: None)
    recorded(measured, path)
    rows = read(path)
    timed = [row for row in rows if "seconds" in row]
    assert {(row["axis"], row["value"]) for row in timed} == {
        (axis, value) for axis, values in axes.items() for value in values
    }
    assert all(row["contender"] == NAMES[0] and row["seconds"] > 0 for row in timed)
    assert [row["contender"] for row in rows if "skipped" in row] == NAMES[1:]
    assert "| seconds an image, by passes | 1 | 8 |" in scaling.table(rows)
    scaling.draw(rows, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 1000
