"""Small model folders for the fake runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.capi import folders
from tests.once import made_once


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model folder that no test changes."""

    def make(folder: Path) -> None:
        folders.make_folder(folder / "small")

    return made_once(tmp_path_factory, "capi-small", make) / "small"


@pytest.fixture
def folder(small: Path, tmp_path: Path) -> Path:
    """A model folder of its own, that a test may change."""
    return folders.copy_of(small, tmp_path / "model")
