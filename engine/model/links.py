"""Show a graph to libraries that refuse files which are links out of their folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, ModelError, reason
from ..paths import user_cache
from .folder import ModelFolder


@contextmanager
def without_links(model: ModelFolder, graph: str) -> Generator[Path, None, None]:
    """Give the path of a graph in one folder with its weights, neither of them a link.

    In the Hugging Face cache every file is a link to another folder, which some libraries refuse.
    Such files are linked anew, or copied where that cannot be done, into a folder of the user's
    cache, until the block ends. What a library has mapped by then stays.

    Args:
        model: model folder.
        graph: name of the graph in the manifest.

    Raises:
        ModelError: the files are links, and the user's cache cannot be written.
    """
    record = model.graph(graph)
    path = model.path / record.file
    names = sorted({record.file, record.weights})
    if not any(_leads_out(model.path / name) for name in names):
        yield path
        return
    try:
        place = user_cache() / "links"
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=place))
    except (OSError, InputError) as error:
        raise ModelError(
            f"the files of '{model.path}' are links, and need a place in the cache:"
            f" {reason(error)}",
            "set XDG_CACHE_HOME to a folder that can be written",
        ) from error
    try:
        for name in names:
            _link_or_copy(model.path / name, folder / name)
        yield folder / record.file
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _leads_out(path: Path) -> bool:
    """Tell whether a file is a link to one in another folder."""
    return os.path.dirname(os.path.realpath(path)) != os.path.realpath(path.parent)


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    real = os.path.realpath(source)
    try:
        os.link(real, target)
    except OSError:  # another file system, or one without links
        try:
            shutil.copyfile(real, target)
        except OSError as error:
            raise ModelError(
                f"model file '{source}' is a link, and cannot be copied: {reason(error)}",
                "free some space in the user's cache (XDG_CACHE_HOME)",
            ) from error
