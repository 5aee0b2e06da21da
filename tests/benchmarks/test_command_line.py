from __future__ import annotations

import sys

import pytest

from benchmarks.cli import main
from benchmarks.cli.options import command_line


def test_where_files_go_is_no_part_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["x", "end-to-end", "--work", "a", "--rounds", "3", "--json=b", "-o", "c", "--quick"]
    monkeypatch.setattr(sys, "argv", words)
    assert command_line() == "python -m benchmarks end-to-end --rounds 3 --quick"


@pytest.mark.parametrize(
    "command",
    ["end-to-end", "stages", "passes", "kernels", "crf", "scaling", "startup", "precision"],
)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--output" in capsys.readouterr().out
