"""Puts a build and its record into a model's folder: whole, once, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
from filelock import FileLock

from ...engine.errors import BackendError, writing_to
from ...engine.model import builds
from ...engine.model.builds import Build, Recipe, Record
from ...engine.model.folder import ModelFolder, record_of

# What lies beside a build while it is made, and is hidden, so that it is taken for none.
_LOCK = ".{}.lock"
_WORK = ".{}.work"


def build_once(
    model: ModelFolder, recipe: Recipe, build: Callable[[Path], object], *, overwrite: bool = False
) -> Build:
    """Make a build, unless it is there already.

    Of several processes that want the same one, the first builds it and the others wait for it;
    different ones are built side by side.

    Args:
        model: the model folder.
        recipe: of the build.
        build: makes it, at the path that it is given.
        overwrite: build it again even if it is there.

    Raises:
        OutputError: it cannot be written.
    """
    folder = builds.builds_folder(model)
    path = folder / recipe.file_name
    if not overwrite and (there := _there(path, recipe)):
        return there
    instead = f"copy '{model.path}' to where you can write, and build the copy"
    with writing_to(folder, instead):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK.format(path.name)):
            if not overwrite and (there := _there(path, recipe)):
                return there
            return _build(path, recipe, build)


def _there(path: Path, recipe: Recipe) -> Build | None:
    """The build, if it is there and whole."""
    try:
        record = builds.read(builds.record_path(path))
    except BackendError:
        return None
    whole = record.recipe == recipe and builds.is_whole(path, record)
    return Build(path, record) if whole else None


def _build(path: Path, recipe: Recipe, build: Callable[[Path], object]) -> Build:
    """Build beside the place of it, of which there is none until its record is written."""
    work = path.parent / _WORK.format(path.name)
    shutil.rmtree(work, ignore_errors=True)  # of a build that was killed
    work.mkdir()
    try:
        made = work / path.name
        build(made)
        record = Record(recipe, record_of(made))
        text = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
        builds.record_path(made).write_bytes(text)
        builds.record_path(path).unlink(missing_ok=True)
        made.replace(path)
        builds.record_path(made).replace(builds.record_path(path))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Build(path, record)
