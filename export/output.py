"""Writes folders completely or not at all, and copies model folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..engine.errors import OutputError, writing_to
from ..engine.model.manifest import MANIFEST


def check_target(output: Path, overwrite: bool) -> None:
    """Refuse an output folder that would overwrite something.

    Raises:
        OutputError: the folder exists and is no model folder, or may not be replaced.
    """
    is_one = (output / MANIFEST).is_file()
    require_free(output, "a model folder", is_one=is_one, overwrite=overwrite)


def require_free(
    output: Path, kind: str, *, is_one: bool, overwrite: bool, option: str = "-o"
) -> None:
    """Refuse a place where something would be lost.

    Args:
        output: path of the folder that is to be written; an empty one may be there.
        kind: what is to be written, for the error: "a model folder".
        is_one: whether there is one of that kind, and nothing else.
        overwrite: whether one may be replaced.
        option: option of the command that names the place, for the error.

    Raises:
        OutputError: there is something else, or one that may not be replaced.
    """
    if is_one and not overwrite:
        raise OutputError(f"'{output}' exists", "replace it with --overwrite")
    if is_one or not output.exists():
        return
    if not output.is_dir() or any(output.iterdir()):
        raise OutputError(
            f"'{output}' exists and is not {kind}", f"choose another folder with {option}"
        )


@contextmanager
def atomic_folder(output: Path, option: str = "-o") -> Iterator[Path]:
    """Give a temporary folder, which is renamed to `output` if no exception was raised.

    Args:
        output: path of the folder; what is there is replaced.
        option: option of the command that names the place, for errors.

    Raises:
        OutputError: the folder cannot be written.
    """
    with writing_to(output, f"choose another folder with {option}"):
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        work, old = staging / "new", staging / "old"
        try:
            work.mkdir()
            yield work
            if output.exists():
                output.replace(old)
            try:
                work.replace(output)
            except OSError:
                if old.exists():
                    old.replace(output)
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a model folder into an empty folder.

    Links would save space, but ONNX's libraries refuse weights that have a second name, in either
    folder. Hidden files are left out: they are being written.
    """
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
