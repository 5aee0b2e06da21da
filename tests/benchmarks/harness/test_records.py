from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cli import main
from benchmarks.harness.records import read, recorded
from pnp_ovss.engine.errors import InputError


def stopped(rows: int) -> Iterator[dict[str, int]]:
    for number in range(rows):
        yield {"row": number}
    raise InputError("no more", "wait")


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    rows = [{"row": 0}, {"row": 1}]
    assert recorded(iter(rows), path) == rows
    assert read(path) == rows
    assert [one.name for one in path.parent.iterdir()] == ["rows.jsonl"]


def test_what_stops_halfway_leaves_the_last_record(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    recorded([{"row": 9}], path)
    for count in (2, 1):  # a second time nothing of the first is left
        with pytest.raises(InputError):
            recorded(stopped(count), path)
        assert read(path) == [{"row": 9}]
        assert len(read(tmp_path / "rows.jsonl.partial")) == count


def test_what_never_begins_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        recorded(stopped(0), tmp_path / "new" / "rows.jsonl")
    assert not list(tmp_path.iterdir())


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    recorded([{"row": 9}], path)
    with pytest.raises(InputError, match="nothing was measured for"):
        recorded([], path)
    assert read(path) == [{"row": 9}]


def test_a_device_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "end-to-end.jsonl"
    path.write_text("{}\n")
    assert main(["end-to-end", "--device", "cuda:99", "-o", str(tmp_path)]) == 2
    assert "cuda:99" in capsys.readouterr().err
    assert path.read_text() == "{}\n"
