from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.once import made_once


def test_whoever_comes_second_waits_and_finds_it_made(tmp_path_factory: pytest.TempPathFactory):
    made: list[Path] = []
    together = threading.Barrier(2, timeout=10)

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.1)
        (folder / "whole").touch()

    def ask(_: int) -> list[str]:
        together.wait()
        folder = made_once(tmp_path_factory, "test-second", make)
        return [path.name for path in folder.iterdir()]

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, range(2))) == [["whole"], ["whole"]]
    assert len(made) == 1


def test_what_failed_is_made_again(tmp_path_factory: pytest.TempPathFactory):
    def fail(folder: Path) -> None:
        (folder / "part").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        made_once(tmp_path_factory, "test-failure", fail)
    folder = made_once(tmp_path_factory, "test-failure", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
