from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.measures import precision


@pytest.mark.slow
def test_rows_of_others_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new record; then one engine in one precision again, on more scenes."""
    path = tmp_path / "precision.jsonl"
    words = ["precision", "--engine", "engine", "-o", str(tmp_path)]
    assert main([*words, "--scenes", "1"]) == 0
    assert main([*words, "--scenes", "2", "--precision", "fp16"]) == 0
    rows = {row.precision: row for row in precision.read(path)}
    assert {name: len(row.labels) for name, row in rows.items()} == {"bf16": 1, "fp16": 2}
    assert all(row.machine["packages"]["onnxruntime"] for row in rows.values())
    text = (tmp_path / "precision.md").read_text()
    assert "| engine | fp16 | 2 |" in text
    assert "engine bf16, engine fp16: " in text  # the command that is told is that of the tests
    assert text.strip() in capsys.readouterr().out


def test_a_precision_that_an_engine_has_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["precision", "--engine", "eager", "--precision", "int8", "-o", str(tmp_path)]
    assert main(words) == 2
    assert "eager is not measured in int8: take --precision fp16 or bf16" in capsys.readouterr().err
