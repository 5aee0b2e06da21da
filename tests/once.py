"""What is expensive to make is made once, however many processes run the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first process that asks for it has filled; nobody may change it.

    Args:
        factory: pytest's fixture; pytest-xdist gives each of its workers a folder inside of one.
        name: of the folder, one for each thing that is made.
        make: fills an empty folder. It runs again where it failed.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, unfinished = root / f"once-{name}", root / f"once-{name}.unfinished"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder
