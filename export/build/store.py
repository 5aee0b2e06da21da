"""Writes a build and its record to the model folder, once, and completely or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from ...engine.errors import BackendError, writing_to
from ...engine.json_text import indented_json
from ...engine.model import builds
from ...engine.model.builds import Build, Recipe, Record
from ...engine.model.folder import ModelFolder, record_of

# Hidden files next to a build while it is made; no reader takes them for builds.
_LOCK = ".{}.lock"
_WORK = ".{}.work"


def build_once(
    model: ModelFolder, recipe: Recipe, build: Callable[[Path], object], *, overwrite: bool = False
) -> Build:
    """Make a build, unless it exists already.

    Of several processes that make the same build, the first makes it and the rest wait for it.
    Different builds are made at the same time.

    Args:
        model: model folder.
        recipe: recipe of the build.
        build: function that writes the build to the path that it is given.
        overwrite: whether an existing build is made again.

    Returns:
        The build.

    Raises:
        OutputError: the build cannot be written.
    """
    folder = builds.builds_folder(model)
    path = folder / recipe.file_name
    if not overwrite and (existing := _existing_build(path, recipe)):
        return existing
    cure = f"copy '{model.path}' to where you can write, and build the copy"
    with writing_to(folder, cure):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / _LOCK.format(path.name)):
            if not overwrite and (existing := _existing_build(path, recipe)):
                return existing
            return _build(path, recipe, build)


def _existing_build(path: Path, recipe: Recipe) -> Build | None:
    """Return the build of a recipe, if it exists and is complete."""
    try:
        record = builds.read(builds.record_path(path))
    except BackendError:
        return None
    complete = record.recipe == recipe and builds.is_whole(path, record)
    return Build(path, record) if complete else None


def _build(path: Path, recipe: Recipe, build: Callable[[Path], object]) -> Build:
    """Make a build in a work folder, and move it to `path`; it is valid once its record exists."""
    work = path.parent / _WORK.format(path.name)
    shutil.rmtree(work, ignore_errors=True)  # left by a build that was killed
    work.mkdir()
    try:
        new = work / path.name
        build(new)
        record = Record(recipe, record_of(new))
        builds.record_path(new).write_bytes(indented_json(record))
        builds.record_path(path).unlink(missing_ok=True)
        new.replace(path)
        builds.record_path(new).replace(builds.record_path(path))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Build(path, record)
