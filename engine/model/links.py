"""Show a graph to libraries that refuse files which are links out of their folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError, ModelError, reason
from ..paths import user_cache
from .builds import graph_sha256
from .folder import ModelFolder

_COPYING = 3600  # seconds for which another process may still need a copy


@contextmanager
def without_links(model: ModelFolder, graph: str) -> Generator[Path, None, None]:
    """Give the path of a graph in one folder with its weights, none of them a link.

    In the Hugging Face cache every file is a link to another folder, which some libraries refuse.
    Such files get a second name in a folder of the user's cache, which is kept for the next time.
    On another file system they are copied, until the block ends; what a library has mapped by then
    stays.

    Args:
        model: model folder.
        graph: name of the graph in the manifest.

    Raises:
        ModelError: the files are links, and the user's cache cannot be written.
    """
    record = model.graph(graph)
    path = model.path / record.file
    files = {name: model.path / name for name in sorted(set(record.files))}
    if not any(_leads_out(file) for file in files.values()):
        yield path
        return
    try:
        place = user_cache() / "links"
        place.mkdir(parents=True, exist_ok=True)
        _sweep(place)
    except (OSError, InputError) as error:
        raise _no_place(model, error) from error
    kept = place / graph_sha256(model, graph)
    try:
        for name, file in files.items():
            _link(file, kept / name)
    except OSError:  # another file system, or one without links
        with _copies(model, files, place) as folder:
            yield folder / record.file
        return
    yield kept / record.file


def _leads_out(path: Path) -> bool:
    """Tell whether a file is a link to one in another folder."""
    return os.path.dirname(os.path.realpath(path)) != os.path.realpath(path.parent)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; one that is there already may be of an earlier file."""
    if target.exists() and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        new = Path(work) / target.name
        os.link(os.path.realpath(source), new)
        new.replace(target)


@contextmanager
def _copies(
    model: ModelFolder, files: Mapping[str, Path], place: Path
) -> Generator[Path, None, None]:
    try:
        work = tempfile.TemporaryDirectory(dir=place)
    except OSError as error:
        raise _no_place(model, error) from error
    with work as folder:
        for name, file in files.items():
            target = Path(folder) / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            except OSError as error:
                raise _no_place(model, error) from error
        yield Path(folder)


def _sweep(place: Path) -> None:
    """Remove names of files that have no other: their models were deleted."""
    for file in place.rglob("*"):
        with suppress(OSError):
            if file.is_file() and file.stat().st_nlink == 1 and _is_old(file):
                file.unlink()


def _is_old(file: Path) -> bool:
    return time.time() - file.stat().st_ctime > _COPYING


def _no_place(model: ModelFolder, error: Exception) -> ModelError:
    return ModelError(
        f"the files of '{model.path}' are links, and need a place in the cache: {reason(error)}",
        "set XDG_CACHE_HOME to a folder that can be written, on the same disk as the model",
    )
