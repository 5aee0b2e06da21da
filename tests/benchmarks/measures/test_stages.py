from __future__ import annotations

from pathlib import Path

from benchmarks.contenders.base import Task
from benchmarks.harness.prepared import PreparedModel
from benchmarks.harness.records import machine, read, recorded
from benchmarks.measures import stages
from tests.conftest import SAMPLES, Exported

TASK = Task(SAMPLES / "beach.jpg", ("person", "boat"), passes=2)
CASE = {"image_size": 96, "device": "cpu", "width": 640, "height": 480, "classes": [], "passes": 2}
ABOUT = {
    "case": CASE,
    "model": {"name": "random:blip-tiny"},
    "machine": machine(),
    "command": "python -m benchmarks stages",
}
NAMES = ["onnxruntime-fp32", "tensorrt-fp16"]


def test_stages_one_by_one(exported: Exported, tmp_path: Path) -> None:
    model = PreparedModel(str(exported.checkpoint), exported.folder, "cpu")
    path = tmp_path / "stages.jsonl"
    recorded(stages.measure(model, TASK, NAMES, rounds=2, about=ABOUT, say=lambda _: None), path)
    timed, skipped = rows = read(path)
    assert {"vision", "salience", "crf", "write"} <= timed["stages"].keys()
    assert skipped["contender"] == NAMES[1]
    text = stages.table(rows)
    assert "| onnxruntime-fp32 |" in text
    assert "- tensorrt-fp16: " in text
