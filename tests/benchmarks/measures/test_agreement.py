from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cli import main
from benchmarks.harness.records import read
from benchmarks.measures import agreement
from pnp_ovss.engine import Segmenter
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.result.segmentation import Segmentation

pytestmark = pytest.mark.slow  # each starts processes that import PyTorch

WORDS = ["agreement", "--device", "cpu", "--contender", "openvino-fp32"]


def off(monkeypatch: pytest.MonkeyPatch, change: Any, backend: str = "openvino") -> None:
    """What one backend finds is something else."""
    load = Segmenter.load.__func__  # type: ignore[attr-defined]

    def loaded(cls: type[Segmenter], *args: Any, **options: Any) -> Segmenter:
        found = load(cls, *args, **options)
        segment = found.segment
        if options["backend"] == backend:
            found.segment = lambda *args, **own: change(segment(*args, **own))
        return found

    monkeypatch.setattr(Segmenter, "load", classmethod(loaded))


def test_two_backends_of_the_cpu_agree(tmp_path: Path) -> None:
    absent = ["--contender", "aotinductor-fp16", "--contender", "tensorrt-fp32"]
    words = [*WORDS, *absent, "--work", str(tmp_path / "work"), "-o", str(tmp_path)]
    assert main(words) == 0
    rows = read(tmp_path / "agreement.jsonl")
    compared, skipped = rows[:3], rows[3:]
    assert [row["image"] for row in compared] == ["beach.jpg", "party.jpg", "picnic.jpg"]
    for row in compared:
        assert 0 < row["maps_error"] < 1e-4
        assert row["other_labels"] <= 1e-3
        assert row["other_labels_without_crf"] <= 1e-3
    assert [row["contender"] for row in skipped] == ["aotinductor-fp16", "tensorrt-fp32"]
    text = (tmp_path / "agreement.md").read_text()
    assert "| openvino-fp32 | cpu | party.jpg | " in text
    assert "- aotinductor-fp16: " in text


@pytest.fixture
def one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    first = agreement.samples()[:1]
    monkeypatch.setattr(agreement, "samples", lambda: first)


@pytest.mark.usefixtures("one_sample")
def test_maps_that_are_off_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    off(monkeypatch, lambda found: replace(found, class_maps=1.002 * found.class_maps))
    assert main([*WORDS, "-o", str(tmp_path)]) == 1
    assert "openvino-fp32 does not agree on beach.jpg" in capsys.readouterr().err
    assert read(tmp_path / "agreement.jsonl")[0]["maps_error"] == pytest.approx(0.002, rel=0.01)


@pytest.mark.usefixtures("one_sample")
@pytest.mark.parametrize("broken", ["with CRF", "without"])
def test_labels_that_are_off_fail(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def change(found: Segmentation) -> Segmentation:
        nonlocal calls
        calls += 1
        labels = found.labels.copy()
        if calls % 2 == (broken == "with CRF"):
            labels[:2] += 1  # of 480 rows
        return replace(found, labels=labels)

    off(monkeypatch, change)
    assert main([*WORDS, "-o", str(tmp_path)]) == 1
    row = read(tmp_path / "agreement.jsonl")[0]
    wrong, right = row["other_labels"], row["other_labels_without_crf"]
    if broken != "with CRF":
        wrong, right = right, wrong
    assert right < 1e-3 < wrong < 0.01


def test_low_precision_is_shown_and_not_judged() -> None:
    row = agreement.AgreementRow(
        contender="aotinductor-bf16",
        device="cpu",
        image="a.jpg",
        maps_error=0.05,
        other_labels=0.01,
        other_labels_without_crf=0.01,
        machine={},
        command="",
    )
    assert not row.is_off


@pytest.mark.usefixtures("one_sample")
def test_nothing_compared_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["agreement", "--device", "cpu", "--contender", "tensorrt-fp32", "-o", str(tmp_path)]
    assert main(words) == 1
    assert "benchmarks: nothing was compared: " in capsys.readouterr().err


@pytest.mark.usefixtures("one_sample")
def test_one_that_breaks_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Any) -> Any:
        raise AttributeError("a defect")

    off(monkeypatch, fail)
    words = [*WORDS, "--contender", "onnxruntime-fp32", "-o", str(tmp_path)]
    assert main(words) == 1
    assert "openvino-fp32 broke: AttributeError; a defect" in capsys.readouterr().err
    (_, exact) = read(tmp_path / "agreement.jsonl")
    assert exact["maps_error"] == 0


@pytest.mark.usefixtures("one_sample")
def test_what_is_built_lies_in_the_work_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []

    def build(model: Any, backend: str, precision: str, **options: Any) -> None:
        built.append(
            (model.path, builds.builds_folder(model), backend, precision, options["device"])
        )

    monkeypatch.setattr(agreement, "build", build)
    words = [*WORDS, "--contender", "aotinductor-fp32", "--build", "-o", str(tmp_path)]
    assert main([*words, "--work", str(tmp_path / "work")]) == 0
    copy = tmp_path / "work" / "demo"
    assert built == [(copy, copy / "builds", "aotinductor", "fp32", "cpu")]
    assert open_model(copy).manifest == open_model("demo").manifest
    assert main([*words, "--work", str(tmp_path / "work")]) == 0  # a second time it is there


def test_there_is_something_to_find_in_the_samples() -> None:
    for path, classes in agreement.samples():
        assert path.exists()
        assert np.size(classes) > 1
