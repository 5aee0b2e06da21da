from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.cli import main
from benchmarks.cli import report as cli_report
from benchmarks.cli.results import reports
from benchmarks.contenders.base import DROP_MODES, Task
from benchmarks.harness import models
from benchmarks.harness.prepared import PreparedModel
from benchmarks.harness.records import machine, read, recorded
from benchmarks.measures import end_to_end, stages
from pnp_ovss.engine.errors import ExecutionError
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.export import export
from tests.conftest import IMAGE_SIZE, SAMPLES, Exported
from tests.once import made_once

pytestmark = pytest.mark.slow  # each starts processes that import PyTorch

TASK = Task(SAMPLES / "beach.jpg", ("person", "boat", "umbrella"), passes=3)
NAMES = ["released", "lean", "onnxruntime-fp32", "openvino-bf16", "tensorrt-fp16"]


def about(model: PreparedModel) -> dict[str, Any]:
    return {
        "case": {"image_size": IMAGE_SIZE, "width": 640, "height": 480, "passes": 3}
        | {"classes": list(TASK.classes), "device": "cpu"},
        "model": models.identity("random:blip-tiny", model),
        "machine": machine(),
        "command": "python -m benchmarks end-to-end",
    }


@pytest.fixture(scope="module")
def model(exported: Exported) -> PreparedModel:
    return PreparedModel(str(exported.checkpoint), exported.folder, "cpu")


@pytest.fixture(scope="module")
def recording(model: PreparedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(folder: Path) -> None:
        rows = end_to_end.measure(
            model, TASK, NAMES, rounds=3, refcheck=True, about=about(model), say=lambda _: None
        )
        recorded(rows, folder / "end-to-end.jsonl")

    return made_once(tmp_path_factory, "end-to-end", make) / "end-to-end.jsonl"


@pytest.fixture(scope="module")
def rows(recording: Path) -> dict[str, dict[str, Any]]:
    return {row["contender"]: row for row in read(recording)}


def test_there_is_a_row_for_each_contender(rows: dict[str, dict[str, Any]]) -> None:
    shortcuts = [mode for mode in DROP_MODES if mode != "pixels"]
    wanted = {*NAMES, *(f"{name}/{mode}" for name in NAMES[2:4] for mode in shortcuts)}
    if "skipped" in rows["openvino-bf16"]:  # this CPU has no bf16
        wanted -= {f"openvino-bf16/{mode}" for mode in shortcuts}
    assert rows.keys() == wanted
    assert "runs on NVIDIA GPUs" in rows["tensorrt-fp16"]["skipped"] or (
        "not installed" in rows["tensorrt-fp16"]["skipped"]
    )


def test_each_computes_what_pytorch_does(rows: dict[str, dict[str, Any]]) -> None:
    """Each way of dropping patches against the same in PyTorch."""
    for name, row in rows.items():
        if name.startswith("onnxruntime"):
            assert 0 < row["maps_error"] < 1e-4
            assert row["same_labels"] > 0.999
    assert rows["lean"]["maps_error"] == 0
    assert rows["released"]["maps_error"] < 1e-4
    if "maps_error" in rows["openvino-bf16"]:
        assert rows["openvino-bf16"]["maps_error"] > 1e-4


def test_ratios_are_of_the_same_round(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["lean"]["ratio_to_lean"] == 1
    assert rows["lean"]["ratio_to_lean_interval"] == [1, 1]
    for row in rows.values():
        if "median_s" not in row:
            continue
        for base in ("released", "lean"):
            low, high = row[f"ratio_to_{base}_interval"]
            assert low <= row[f"ratio_to_{base}"] <= high
        assert row["p05_s"] <= row["median_s"] <= row["p95_s"]


def test_stages_add_up(rows: dict[str, dict[str, Any]]) -> None:
    for name in ("released", "lean", "onnxruntime-fp32"):
        stages = rows[name]["stages"]
        assert {"decode", "vision", "salience", "refine", "crf", "write"} <= stages.keys()
        assert all(seconds >= 0 for seconds in stages.values())
        assert stages["other"] < 0.5 * sum(stages.values())
    assert "match of each class" in rows["onnxruntime-fp32"]["stages"]


def test_memory_is_of_a_process_of_its_own(rows: dict[str, dict[str, Any]]) -> None:
    """The engine's has no PyTorch in it."""
    engine, pytorch = (rows[n]["peak_memory_mib"] for n in ("onnxruntime-fp32", "lean"))
    assert 50 < engine < 0.7 * pytorch


def test_how_it_ran_is_read_back(rows: dict[str, dict[str, Any]]) -> None:
    vision = rows["onnxruntime-fp32"]["read_back"]["vision"]
    assert vision["providers"] == ["CPUExecutionProvider"]
    pytorch = rows["lean"]["read_back"]
    assert pytorch["threads"] == len(os.sched_getaffinity(0))
    assert pytorch["tf32"] == {"convolutions": False, "products": False}
    assert pytorch["crf"] == "pydensecrf2"
    if "read_back" in rows["openvino-bf16"]:
        hint = rows["openvino-bf16"]["read_back"]["vision"]["properties"]
        assert "bfloat16" in hint["INFERENCE_PRECISION_HINT"]


def test_the_model_is_named_by_its_contents(
    rows: dict[str, dict[str, Any]], model: PreparedModel
) -> None:
    assert len(rows["lean"]["model"]["vision_sha256"]) == 64
    assert open_model(model.folder).manifest.trained
    assert rows["lean"]["machine"]["packages"].keys() >= {"torch", "onnxruntime", "openvino"}


def test_tables_and_plots(recording: Path) -> None:
    text = reports()["end-to-end"].render(recording)
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in table}) == 1
    assert any(line.startswith("| onnxruntime-fp32/attention * |") for line in table)
    assert "- tensorrt-fp16: " in text
    assert recording.with_suffix(".png").stat().st_size > 1000
    assert "| match of each class, ms |" in reports()["stages"].render(recording)


def test_the_report_goes_into_the_readme(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "end-to-end"
    results.mkdir()
    (results / "end-to-end.jsonl").write_bytes(recording.read_bytes())
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- end-to-end -->old<!-- /end-to-end -->\nafter\n")
    words = ["report", "--results", str(tmp_path), "--readme", str(readme)]
    assert main(words) == 0
    text = readme.read_text()
    assert text.startswith("before\n<!-- end-to-end -->\n\n")
    assert text.endswith("<!-- /end-to-end -->\nafter\n")
    assert "| lean |" in text
    assert "old" not in text
    assert main(words) == 0  # a second time changes nothing
    assert readme.read_text() == text
    readme.write_text("no place")
    assert main(words) == 2
    assert "the document has no lines <!-- end-to-end -->" in capsys.readouterr().err


def test_other_results_leave_the_readme_alone(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "end-to-end"
    results.mkdir()
    (results / "end-to-end.jsonl").write_bytes(recording.read_bytes())
    readme = tmp_path / "README.md"
    readme.write_text("<!-- end-to-end --><!-- /end-to-end -->")
    monkeypatch.setattr(cli_report, "README", readme)
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--results", "."]) == 0
    assert "| lean |" not in readme.read_text()
    monkeypatch.setattr(cli_report, "RESULTS", tmp_path)
    assert main(["report", "--results", "."]) == 0
    assert "| lean |" in readme.read_text()


def test_a_report_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", str(tmp_path)]) == 2
    assert "python -m benchmarks end-to-end" in capsys.readouterr().err


def test_one_that_is_wrong_is_not_timed(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its salience is read at another head than its manifest says."""
    export(str(exported.checkpoint), tmp_path / "wrong", image_size=IMAGE_SIZE, head=(1,))
    manifest = tmp_path / "wrong" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"head": 1', '"head": 3'))
    wrong = PreparedModel(str(exported.checkpoint), tmp_path / "wrong", "cpu")
    monkeypatch.setattr(models, "prepare", lambda *_, **__: wrong)
    path = tmp_path / "rows.jsonl"
    words = "--contender lean --contender onnxruntime-fp32 --drop-mode pixels --rounds 1 --json"
    assert main(["end-to-end", *words.split(), str(path)]) == 1
    skipped, timed = (json.loads(line) for line in path.read_text().splitlines())
    assert (skipped["contender"], skipped["failed"]) == ("onnxruntime-fp32", True)
    assert skipped["skipped"].startswith("wrong: its class maps are off by ")
    assert timed["contender"] == "lean"
    assert timed["rounds"] >= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--contender", "abacus"], "unknown contender 'abacus'; take one of released, lean,"),
        (["--contender", "onnxruntime-fp32"], "--refcheck compares with lean"),
        (["--model", "random:blip-huge"], "take one of random:blip-tiny,"),
        (["--image", "none.jpg"], "does not exist"),
        (["--image", __file__], "is no image"),
        (["--rounds", "0"], "is not in the range"),
    ],
)
def test_bad_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["end-to-end", *words]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_nothing_is_timed_where_there_is_nothing_to_compare_with(
    exported: Exported, model: PreparedModel, tmp_path: Path
) -> None:
    broken = PreparedModel(
        str(tmp_path), exported.folder, "cpu"
    )  # no checkpoint is there for PyTorch
    names = ["lean", "onnxruntime-fp32"]
    rows = end_to_end.measure(
        broken, TASK, names, rounds=1, refcheck=True, about=about(model), say=lambda _: None
    )
    assert next(rows).failed  # type: ignore[union-attr]
    with pytest.raises(ExecutionError, match=r"lean, which .* did not run: "):
        list(rows)


def test_without_pydensecrf_the_tables_say_so(
    model: PreparedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pydensecrf.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(tmp_path)  # of the workers too
    run = {"rounds": 1, "about": about(model), "say": lambda _: None}
    (row,) = end_to_end.measure(model, TASK, ["lean"], refcheck=False, **run)
    (staged,) = stages.measure(model, TASK, ["lean"], **run)
    rows = [msgspec.to_builtins(one) for one in (row, staged)]
    assert [one["read_back"]["crf"] for one in rows] == ["densecrf", "densecrf"]
    said = "lean: with the CRF of this package, as pydensecrf2 cannot be imported here."
    for text in (
        end_to_end.table(rows[:1]),
        end_to_end.summary(rows[:1]),
        stages.table(rows[1:]),
    ):
        assert said in text
    rows[0]["read_back"]["crf"] = "pydensecrf2"
    assert said not in end_to_end.table(rows[:1])
