from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pnp_ovss.engine import Segmenter
from pnp_ovss.engine.cli import main
from pnp_ovss.engine.model.folder import DEMO
from tests.engine.cli.command_line import assert_short, errors


@pytest.fixture
def workplace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Image.Image]
) -> Iterator[Path]:
    """An empty folder with the picture `cat.jpg`, which nothing may change."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    picture(3, 40, 30).save("cat.jpg")
    before = Path("cat.jpg").read_bytes()
    yield folder
    assert (folder / "cat.jpg").read_bytes() == before


@pytest.fixture(scope="session")
def demo() -> Segmenter:
    """The demo model as the commands load it, which stays open when they close it."""
    segmenter = Segmenter.load(DEMO)
    segmenter.close = lambda: None
    return segmenter


@pytest.fixture
def demo_is_loaded(demo: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each command the loading of the demo model, which `test_demo` does not."""
    load = Segmenter.load

    def loaded(model: str | Path = DEMO, **options: Any) -> Segmenter:
        by_default = model == DEMO and set(options.values()) <= {"auto"}
        return demo if by_default else load(model, **options)

    monkeypatch.setattr(Segmenter, "load", loaded)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that must exit with code 2; return what it said, in one or two lines."""

    def run(*words: object) -> str:
        assert main([*map(str, words)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        said = errors(printed.err)
        assert_short(said)
        return said

    return run
