from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.contenders.base import Task
from benchmarks.harness.prepared import PreparedModel
from benchmarks.harness.records import machine
from benchmarks.measures import startup
from tests import thresholds
from tests.conftest import SAMPLES, Exported


@pytest.mark.timing
@pytest.mark.parametrize(
    ("code", "budget"),
    [
        (startup.HELP, thresholds.HELP_SECONDS),
        (startup.IMPORT, thresholds.IMPORT_SECONDS),
        ("import pnp_ovss.engine", thresholds.HELP_SECONDS),
    ],
)
def test_budgets(code: str, budget: float) -> None:
    """The best of several, as other work on the machine only adds."""
    assert any(startup.seconds_of(code) < budget for _ in range(7))


def test_the_first_image(exported: Exported, tmp_path: Path) -> None:
    model = PreparedModel(str(exported.checkpoint), exported.folder, "cpu")
    task = Task(SAMPLES / "beach.jpg", ("person", "boat"))
    case = {"image_size": 96, "device": "cpu", "width": 640, "height": 480}
    case |= {"classes": [], "passes": 4}
    about = {
        "case": case,
        "model": {"name": "tiny"},
        "machine": machine(),
        "command": "python -m benchmarks startup",
    }
    names = ["onnxruntime-fp32", "tensorrt-fp16"]
    rows = list(startup.measure(model, task, names, rounds=1, about=about, say=lambda _: None))
    shown, imported, first, skipped = rows
    assert "not installed" in skipped["skipped"] or "runs on NVIDIA GPUs" in skipped["skipped"]
    assert first["warm_s"] > imported["warm_s"] > 0
    assert first["cold_s"] > 0
    assert first["resident_mib"] > first["shared_mib"] > 0
    assert "| first image, onnxruntime-fp32 |" in startup.table(rows)
    assert shown["what"] == "pnp-ovss --help"


@pytest.mark.slow
def test_processes_share_the_weights(tmp_path: Path) -> None:
    """Of ONNX Runtime, in float32: they are mapped, not copied."""
    from benchmarks.harness.models import prepare

    model = prepare(
        "random:blip-base", image_size=224, device="cpu", folder=tmp_path, say=lambda _: None
    )
    weights = sum(path.stat().st_size for path in model.folder.glob("onnx/*_data")) / 2**20
    task = Task(SAMPLES / "beach.jpg", ("person", "boat"))
    *_, row = startup.measure(
        model, task, ["onnxruntime-fp32"], rounds=1, about={}, say=lambda _: None
    )
    assert weights > 700
    assert row["shared_mib"] > 0.8 * weights
    assert row["resident_mib"] - row["shared_mib"] < weights
