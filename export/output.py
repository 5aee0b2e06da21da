"""Writes model folders completely or not at all, and copies them."""

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
    if not output.exists():
        return
    if not (output / MANIFEST).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(
            f"'{output}' exists and is not a model folder", "choose another folder with -o"
        )
    if (output / MANIFEST).is_file() and not overwrite:
        raise OutputError(f"'{output}' exists", "replace it with --overwrite")


@contextmanager
def atomic_folder(output: Path) -> Iterator[Path]:
    """Give a temporary folder, which is renamed to `output` if no exception was raised."""
    with writing_to(output, "choose another folder with -o"):
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
