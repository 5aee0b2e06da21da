from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli import main
from benchmarks.cli.results import command_line
from benchmarks.harness import models
from pnp_ovss.engine.model.folder import open_model


def test_where_files_go_is_no_part_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["x", "end-to-end", "--work", "a", "--rounds", "3", "--json=b", "-o", "c", "--quick"]
    monkeypatch.setattr(sys, "argv", words)
    assert command_line() == "python -m benchmarks end-to-end --rounds 3 --quick"


@pytest.mark.parametrize(
    "command",
    [
        "end-to-end",
        "stages",
        "passes",
        "kernels",
        "kernel-times",
        "crf",
        "scaling",
        "startup",
        "refinement",
        "soak",
        "precision",
        "memory",
        "agreement",
    ],
)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--output" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", ["end-to-end", "passes", "kernel-times", "agreement", "prepare"]
)
def test_what_is_made_can_be_kept(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--work" in capsys.readouterr().out


def test_a_model_is_prepared_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["prepare", "--model", "random:blip-tiny", "--image-size", "96", "--work"]
    assert main([*words, str(tmp_path)]) == 0
    (path,) = capsys.readouterr().out.splitlines()
    assert path == str(tmp_path / "random-blip-tiny-96")
    assert open_model(path).manifest.preprocess.sides[0] == 96

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("it is there")

    monkeypatch.setattr(models, "export", refuse)
    assert main([*words, str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [path]


def test_preparing_needs_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "--model", "random:blip-tiny"]) == 2
    assert "--work" in capsys.readouterr().err
