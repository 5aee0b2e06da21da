from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from msgspec.structs import replace

from pnp_ovss.engine import OutputError
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.builds import Recipe
from pnp_ovss.engine.model.folder import ModelFolder, open_model, record_of
from pnp_ovss.export.build.store import build_once

RECIPE = Recipe("tensorrt-rtx", "vision", "fp16", "0" * 64, [{"batch": 1}], ["sm_86"], "1.7.1")


@pytest.fixture
def model(model_copy: Path) -> ModelFolder:
    return open_model(model_copy)


def writing(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def never(_: Path) -> None:
    raise AssertionError("it was built again")


def left(model: ModelFolder) -> list[str]:
    names = (path.name for path in (model.path / "builds").iterdir())
    return sorted(name for name in names if not name.endswith(".lock"))


def test_a_build_is_made_once(model: ModelFolder) -> None:
    path, record = build_once(model, RECIPE, writing(b"build"))
    assert path.read_bytes() == b"build"
    assert left(model) == [RECIPE.file_name, f"{RECIPE.file_name}.json"]
    assert build_once(model, RECIPE, never) == (path, record)


def test_overwriting_builds_it_again(model: ModelFolder) -> None:
    build_once(model, RECIPE, writing(b"old"))
    path, record = build_once(model, RECIPE, writing(b"new"), overwrite=True)
    assert path.read_bytes() == b"new"
    assert record.file == record_of(path)
    assert builds.recorded(model) == [(path, record)]


@pytest.mark.parametrize("file", ["build", "record"])
def test_what_is_damaged_is_built_again(model: ModelFolder, file: str) -> None:
    path, _ = build_once(model, RECIPE, writing(b"build"))
    (path if file == "build" else builds.record_path(path)).write_bytes(b"damaged")
    assert build_once(model, RECIPE, writing(b"again")).path.read_bytes() == b"again"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "no space left")])
@pytest.mark.parametrize("before", [False, True])
def test_a_build_that_fails_changes_nothing(
    model: ModelFolder, error: BaseException, before: bool
) -> None:
    if before:
        build_once(model, RECIPE, writing(b"old"))

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    with pytest.raises((KeyboardInterrupt, OutputError)):
        build_once(model, RECIPE, fail, overwrite=True)
    assert left(model) == ([RECIPE.file_name, f"{RECIPE.file_name}.json"] if before else [])
    if before:
        assert build_once(model, RECIPE, never).path.read_bytes() == b"old"


def test_an_interrupt_while_files_take_their_places(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the worst moment there is no build, rather than one with the record of another."""
    build_once(model, RECIPE, writing(b"old"))
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if target.suffix == ".json":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_once(model, RECIPE, writing(b"new"), overwrite=True)
    assert builds.recorded(model) == []


def test_what_a_killed_build_left_is_cleared_away(model: ModelFolder) -> None:
    work = model.path / "builds" / f".{RECIPE.file_name}.work"
    work.mkdir(parents=True)
    (work / "half.engine").write_bytes(b"half")
    assert builds.recorded(model) == []
    build_once(model, RECIPE, writing(b"build"))
    assert left(model) == [RECIPE.file_name, f"{RECIPE.file_name}.json"]


def test_different_builds_are_made_at_the_same_time(model: ModelFolder) -> None:
    """Neither waits for the other, nor clears its work away."""
    recipes = [RECIPE, replace(RECIPE, graph="salience")]
    together = threading.Barrier(2, timeout=10)

    def build(path: Path) -> None:
        together.wait()
        path.write_bytes(b"build")
        together.wait()

    with ThreadPoolExecutor(2) as threads:
        built = list(threads.map(lambda recipe: build_once(model, recipe, build), recipes))
    assert [one.record.recipe for one in built] == recipes
    assert sorted(map(str, builds.recorded(model))) == sorted(map(str, built))


def test_who_wants_the_build_that_is_being_made_waits_for_it(model: ModelFolder) -> None:
    building, finish = threading.Event(), threading.Event()

    def build(path: Path) -> None:
        building.set()
        assert finish.wait(10)
        path.write_bytes(b"build")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(build_once, model, RECIPE, build)
        assert building.wait(10)
        second = threads.submit(build_once, model, RECIPE, never)
        assert not wait([second], timeout=0.2).done
        finish.set()
        assert second.result(10) == first.result(10)


def test_a_folder_that_cannot_be_written(model: ModelFolder) -> None:
    (model.path / "builds").write_bytes(b"a file")
    with pytest.raises(OutputError, match="cannot write to") as caught:
        build_once(model, RECIPE, never)
    assert "copy" in caught.value.cure
