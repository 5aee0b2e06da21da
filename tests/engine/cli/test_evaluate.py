from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.demo_model import recipe
from pnp_ovss.engine import Segmenter
from pnp_ovss.engine.cli import main
from pnp_ovss.engine.evaluation import DATASETS, evaluate, report
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import SIDE
from pnp_ovss.export import export

pytestmark = pytest.mark.usefixtures("demo_is_loaded")
FEW = ["--images", "4", "--crf", "none"]


def test_a_report_in_lines(capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "stickers", *FEW]) == 0
    out = capsys.readouterr().out
    assert out.startswith("stickers, 4 images\n")
    assert "background" in out
    assert "mIoU" in out.splitlines()[-3]


def test_the_command_knows_every_data_set(capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "--help"]) == 0
    assert f"{{{'|'.join(DATASETS)}}}" in capsys.readouterr().out


@pytest.mark.parametrize("dataset", ["stickers", "stickers-context"])
@pytest.mark.parametrize("present", ["given", "match"])
def test_a_report_as_json(dataset: str, present: str, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", dataset, "--present", present, *FEW, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["dataset"] == dataset
    assert report["images"] == 4
    seen = [iou for iou in report["per_class"].values() if iou is not None]
    assert report["miou"] == pytest.approx(sum(seen) / len(seen), abs=1e-5)
    assert report["per_class"].keys() == report["boundary_per_class"].keys()
    assert 0 < report["boundary_f"] < 1
    assert report["settings"]["background"] == ("auto" if "context" in dataset else "always")
    assert report["model"]["trained"] is True


def test_the_command_reports_what_the_library_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """`--pictures` is what `--images` was called."""
    words = ["--pictures", "4", "--crf", "none", "--json", "-o", str(tmp_path)]
    assert main(["evaluate", "stickers", *words]) == 0
    printed = json.loads(capsys.readouterr().out)
    dataset = DATASETS["stickers"]
    with Segmenter.load("demo") as segmenter:
        settings = replace(dataset.adapt(segmenter.settings), crf=None)
        told = report(evaluate(segmenter, dataset, settings, images=4))
    assert list(printed) == list(told)
    assert printed == json.loads(json.dumps(told))
    assert json.loads((tmp_path / "report.json").read_text()) == printed


@pytest.mark.slow
def test_the_ablation_has_a_row_for_each_stage_and_drop_mode(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["evaluate", "stickers", *FEW, "--ablation", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in report["ablation"]]
    assert names[:4] == ["attention only", "+ GradCAM", "+ Salience DropOut", "+ blur"]
    assert report["ablation"][-1]["miou"] == report["miou"]
    assert [row["name"] for row in report["drop_modes"]] == [
        "drop mode 'pixels'",
        "drop mode 'tokens'",
        "drop mode 'attention'",
    ]


@pytest.mark.slow
def test_files(tmp_path: Path):
    assert main(["evaluate", "stickers", *FEW, "-o", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.json",
        "confusion.png",
        "contact-sheet.png",
    }
    for path in (tmp_path / "out").glob("*.png"):
        assert min(Image.open(path).size) > 400


@pytest.mark.slow
def test_a_model_with_every_map_is_swept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "all"
    export(str(recipe.CHECKPOINT), folder, image_size=SIDE, all_heads=True)
    words = ["evaluate", "stickers", "-m", str(folder), *FEW]
    assert main([*words, "--json", "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("note: running on ") == 1
    report = json.loads(printed.out)
    assert f" with {report['model']['backend']} in fp32" in printed.err
    assert [len(row) for row in report["miou_per_head"]] == [4] * 3
    assert Image.open(tmp_path / "out" / "layers-and-heads.png").width > 800
    assert main(words) == 0
    assert "layer 2" in capsys.readouterr().out
    for option in ("--ablation", "--passes 2", "--crf pydensecrf", "--present match"):
        assert main(["evaluate", "stickers", "-m", str(folder), *option.split()]) == 2
        assert "is not for a model exported with --all-heads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["coco"], "'coco' is not one of"),
        (["stickers", "--images", "501"], "501 images"),
        (["stickers", "--images", "0"], "0 is not in the range"),
        (["stickers", "-m", "no-such-folder", "-o", "out"], "no model folder at"),
        (["stickers", "--backend", "abacus"], "unknown backend 'abacus'"),
        (["stickers", "-o", "taken"], "'taken/report.json' is no report of an evaluation"),
    ],
)
def test_bad_input(
    words: list[str],
    cause: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "report.json").write_text("{}")
    assert main(["evaluate", *words]) == 2
    assert cause in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_model_that_was_not_taught_the_names(
    model_copy: Path, capsys: pytest.CaptureFixture[str]
):
    """BERT's vocabulary can write them all, so a model of unknown skill is evaluated."""
    assert main(["evaluate", "stickers", "-m", str(model_copy), *FEW, "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["miou"] < 0.3


@pytest.mark.parametrize(
    ("package", "option"), [("matplotlib", ["-o", "out"]), ("onnx", ["--ablation"])]
)
def test_what_is_missing_is_named_before_any_work(
    package: str,
    option: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "stickers", *option]) == 2
    assert "pip install 'pnp-ovss[evaluate]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_ablation_that_needs_a_build_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The model runs, as if it had a build; without its gradient it has none."""
    demo, load = Segmenter.load("demo", device="cpu"), Segmenter.load
    monkeypatch.setattr(
        Segmenter, "load", lambda model, **how: demo if model == "demo" else load(model, **how)
    )
    monkeypatch.setattr("pnp_ovss.engine.cli.evaluate.evaluate", pytest.fail)
    words = ["evaluate", "stickers", *FEW, "--ablation", "--device", "cpu", "--precision", "fp16"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "runs the model without its gradient, of which there are no builds" in said
    assert "take --device cpu and --precision fp32" in said
