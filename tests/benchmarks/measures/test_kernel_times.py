from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.cli import main
from benchmarks.contenders.engine import EngineSegmenter
from benchmarks.harness import models
from benchmarks.harness.prepared import PreparedModel
from benchmarks.harness.records import read
from benchmarks.measures import kernel_times
from tests.conftest import Exported


@pytest.fixture
def words(
    exported: Exported, tmp_path: Path, picture, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """A command line that is quick; what it names goes to `tmp_path`."""
    model = PreparedModel(str(exported.checkpoint), exported.folder, "cpu")
    monkeypatch.setattr(models, "prepare", lambda *_, **__: model)
    monkeypatch.setattr(kernel_times, "IMAGES", 2)
    monkeypatch.setattr(kernel_times, "WARM_UP", 1)
    picture().save(tmp_path / "image.png")
    words = ["kernel-times", "--device", "cpu", "--passes", "1", "--rounds", "1"]
    return [*words, "--image", str(tmp_path / "image.png"), "-o", str(tmp_path)]


def test_operators_of_pytorch_are_named(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here beside the engine, which on the CPU has none in ONNX Runtime."""
    segment = EngineSegmenter.segment

    def with_products(engine: EngineSegmenter, task: Any) -> Any:
        for _ in range(3):
            torch.mm(torch.ones(200, 200), torch.ones(200, 200))
        return segment(engine, task)

    monkeypatch.setattr(EngineSegmenter, "segment", with_products)
    assert main([*words, "--contender", "onnxruntime-fp32"]) == 0
    rows = read(tmp_path / "kernel-times.jsonl")
    whole, stream = (row for row in rows if "median_s" in row)
    assert (whole["what"], stream["what"]) == ("one image", "2 images in a batch")
    assert whole["rounds"] >= 1
    assert 0 < whole["idle_share"] < 1
    own = [row for row in rows if "calls" in row]
    assert {row["what"] for row in own} == {"one image"}
    (product,) = (row for row in own if row["name"] == "aten::mm")
    assert product["calls"] == 3
    assert 0 < product["total_ms"] <= 1000 * whole["device_s"]
    assert sum(row["share"] for row in own) == pytest.approx(1)
    times = [row["total_ms"] for row in own]
    assert times == sorted(times, reverse=True)
    text = (tmp_path / "kernel-times.md").read_text()
    assert "## onnxruntime-fp32 on cpu, one image" in text
    assert "| `aten::mm` | 3 | " in text


def test_where_there_are_none_it_says_so(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--contender", "onnxruntime-fp32"]) == 0
    rows = read(tmp_path / "kernel-times.jsonl")
    assert [row["device_s"] for row in rows] == [0, 0]
    assert [row["idle_share"] for row in rows] == [1, 1]
    text = (tmp_path / "kernel-times.md").read_text()
    assert text.count("PyTorch's profiler saw no kernel.") == 2


def test_one_that_cannot_be_had(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--contender", "tensorrt-fp16"]) == 1
    assert "tensorrt-fp16 was not timed: cpu: " in capsys.readouterr().err
    assert "Not timed on cpu: tensorrt-fp16: " in (tmp_path / "kernel-times.md").read_text()


def test_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--contender", "lean"]) == 2
    assert "unknown contender 'lean'; take one of onnxruntime-fp32," in capsys.readouterr().err


class Profile:
    """What the profiler finds on a GPU: kernels of two streams, and the host's calls."""

    def __init__(self, activities: Any) -> None:
        self.activities = activities

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def events(self) -> list[Any]:
        spans = [
            ("gemm", "CUDA", 0, 40),
            ("blur", "CUDA", 30, 50),
            ("gemm", "CUDA", 100, 140),
            ("cudaLaunchKernel", "CPU", 0, 1000),
        ]
        return [
            SimpleNamespace(
                name=name,
                device_type=SimpleNamespace(name=kind),
                time_range=SimpleNamespace(
                    start=start, end=end, elapsed_us=lambda own=end - start: own
                ),
            )
            for name, kind, start, end in spans
        ]


def test_kernels_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that run side by side count both, and keep it busy but once."""
    monkeypatch.setattr(kernel_times, "profile", Profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    found = kernel_times.profile_kernels(lambda: None, "cuda:0")
    assert [(one.name, one.calls) for one in found.kernels] == [("gemm", 2), ("blur", 1)]
    assert [one.seconds for one in found.kernels] == pytest.approx([80e-6, 20e-6])
    assert found.busy_s == pytest.approx(90e-6)


def test_the_largest_are_shown_and_the_rest_is_summed() -> None:
    case = {"device": "cuda:0", "image_size": 96, "width": 6, "height": 4, "classes": []}
    whole = {
        "what": "one image",
        "contender": "aotinductor-bf16",
        "median_s": 0.01,
        "p05_s": 0.01,
        "p95_s": 0.01,
        "rounds": 5,
        "device_s": 0.008,
        "idle_share": 0.2,
        "case": case | {"passes": 4},
        "model": {"name": "random:blip-tiny"},
        "machine": {"processor": "x", "processors": 2, "instructions": []}
        | {"python": "3.12", "packages": {}, "date": "2026-01-01"},
        "command": "python -m benchmarks kernel-times",
    }
    kernels = [
        {"what": "one image", "device": "cuda:0", "name": f"void k{number}<a|b>"}
        | {"calls": 2, "total_ms": 1.0, "share": 1 / 32}
        for number in range(32)
    ]
    text = kernel_times.table([whole, *kernels])
    assert "10.00 ms (10.00 to 10.00, 5 runs); kernels 8.00 ms in all" in text
    assert "in 20 % of the time" in text
    assert text.count("| `void k") == 30
    assert "| `void k0<a/b>` | 2 | 1.000 | 3.1 % |" in text
    assert "| 2 others | 4 | 2.000 | 6.2 % |" in text
