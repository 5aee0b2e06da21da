from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from PIL import Image

from pnp_ovss.engine.cli import main
from pnp_ovss.engine.model.folder import open_model
from tests.conftest import SAMPLES

EXPECTED = json.loads((SAMPLES / "samples.json").read_text())


def test_every_sample_is_listed_with_names_the_demo_model_was_taught() -> None:
    known = set(open_model("demo").manifest.classes)
    assert {sample["file"] for sample in EXPECTED} == {path.name for path in SAMPLES.glob("*.jpg")}
    for sample in EXPECTED:
        assert set(sample["classes"]) <= known


def test_the_demo_needs_no_network_and_prints_json_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, no_network)
    assert main(["demo", "-o", str(tmp_path / "out"), "--json"]) == 0

    printed = capsys.readouterr()
    trained = open_model("demo").manifest.trained
    assert ("random weights" in printed.err) is not trained
    reports = json.loads(printed.out)
    assert [Path(report["image"]).name for report in reports] == [s["file"] for s in EXPECTED]
    for report, sample in zip(reports, EXPECTED, strict=True):
        assert [found["name"] for found in report["classes"]] == sample["classes"]
        with Image.open(report["files"]["labels"]) as labels:
            assert labels.mode == "P"
            assert labels.size == (report["width"], report["height"])
    assert len(list((tmp_path / "out").iterdir())) == 3 * len(EXPECTED)


def test_the_demo_names_each_picture_and_needs_no_other_crf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    printed = capsys.readouterr()
    (said,) = printed.err.splitlines()
    assert said.startswith("pnp-ovss: note: running on ")
    lines = printed.out.splitlines()
    assert len(lines) == len(EXPECTED)
    for line, sample in zip(lines, EXPECTED, strict=True):
        overlay, _, names = line.partition("  ")
        assert Path(overlay).is_file()
        assert names == f"({', '.join(sample['classes'])})"


def test_a_demo_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").write_text("mine")
    assert main(["demo", "-o", str(tmp_path / "taken"), "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"cannot write to '{tmp_path / 'taken'}'" in printed.err
    assert (tmp_path / "taken").read_text() == "mine"
