"""Find model folders, and check that they are whole."""

from __future__ import annotations

import logging
import math
import os
import re
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from ..errors import InputError, ModelError
from ..json_text import decode_json, indented_json
from ..paths import absolute, expanded, user_cache
from .files import DEPLOY, ModelFiles, sha256_of
from .manifest import AGAIN, MANIFEST, SCHEMA_VERSION, TOKENIZER, FileRecord, Manifest
from .signature import Graph
from .version_1 import upgrade

DEMO = "demo"
HIDDEN = "'demo' is the model of this package; for the folder of that name here, give ./demo"
_log = logging.getLogger(__name__)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that was read and checked.

    Where it is unpickled, the folder is opened again, and must still be what it was.

    Attributes:
        path: path of the folder, absolute and without links.
        manifest: contents of its `manifest.json`.
        files: its files, held open.
        verified: whether the sha256 of each file was compared.
    """

    path: Path
    manifest: Manifest
    files: ModelFiles = field(repr=False, compare=False)
    verified: bool = True

    @classmethod
    def of(cls, path: Path, manifest: Manifest, verify: bool = True) -> ModelFolder:
        """Open the files that a manifest lists.

        Raises:
            ModelError: a file is missing or altered.
        """
        return cls(path, manifest, ModelFiles(path, manifest.files, verify), verify)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self.manifest, self.verified)

    @property
    def argument(self) -> str:
        """Name of the model on a command line: "demo", or its path in quotes."""
        return DEMO if self.path == find_model(DEMO) else quoted(self.path)

    def has_graph(self, name: str) -> bool:
        """Tell whether the manifest has a graph, and its files."""
        graph = self.manifest.graphs.get(name)
        return graph is not None and set(graph.files) <= self.manifest.files.keys()

    def graph(self, name: str) -> Graph:
        """Look up a graph in the manifest.

        Raises:
            ModelError: the model has no such graph: an earlier version exported it.
        """
        graph = self.manifest.graphs.get(name)
        if graph is None or not self.has_graph(name):
            source = self.manifest.checkpoint.source
            raise ModelError(
                f"'{self.path}' has no graph {name!r}: it was exported by an earlier version, or"
                " for another method",
                f"export it again: pnp-ovss export {source} -o {quoted(self.path)} --image-size"
                f" {self.manifest.preprocess.sides[0]} --overwrite",
            )
        return graph

    def graph_path(self, name: str) -> Path:
        """Return the path of a graph's ONNX file.

        Raises:
            ModelError: the model has no such graph: an earlier version exported it.
        """
        return self.path / self.graph(name).file


def _reopened(path: Path, manifest: Manifest, verify: bool) -> ModelFolder:
    """Open a folder that was pickled, by the manifest that it had."""
    try:
        return ModelFolder.of(path, manifest, verify)
    except ModelError as error:
        raise ModelError(
            f"the model changed since it was loaded and pickled: {error.cause}", DEPLOY
        ) from error


def cache_folder(hub_id: str) -> Path:
    """Return the folder in the user's cache for the export of a hub id."""
    return user_cache() / "models" / hub_id.replace("/", "--")


def quoted(path: Path) -> str:
    """Quote a path for a shell; always, as a sentence may stand around it."""
    return "'" + str(path).replace("'", "'\\''") + "'"


def hides_a_folder(model: str) -> bool:
    """Tell whether the name of a model of this package is also that of a folder here."""
    return model == DEMO and os.path.isdir(DEMO)


def is_hub_id(model: str) -> bool:
    """Tell whether a name has the form `organization/name`, and is no path that exists here."""
    return bool(_HUB_ID.fullmatch(model)) and not os.path.exists(model)


def find_model(model: str | Path) -> Path:
    """Find the folder of a model: its path, absolute and without links.

    Links are followed once, here. So all files are of one model, even if the link is turned to
    another model meanwhile.

    Args:
        model: "demo", a hub id that was exported before, or the path of the folder.

    Raises:
        ModelError: the folder does not exist.
    """
    name = str(model)
    if name == DEMO:
        if hides_a_folder(name):
            _log.warning("%s", HIDDEN)
        return Path(str(resources.files("pnp_ovss.engine") / "data" / "demo")).resolve()
    if is_hub_id(name):
        folder = cache_folder(name)
        if not folder.exists():
            raise ModelError(
                f"{name!r} has not been exported on this machine yet",
                f"export it once: pnp-ovss export {name} -o {quoted(folder)}",
            )
        return folder.resolve()
    try:
        folder = absolute(expanded(name))
    except InputError as error:
        raise ModelError(f"no model folder: {error.cause}", error.cure) from error
    if not os.path.isdir(folder):
        raise ModelError(
            f"no model folder at '{name}'",
            "make one with: pnp-ovss export CHECKPOINT -o DIR (or use the model 'demo')",
        )
    return folder.resolve()


def open_model(model: str | Path, *, verify: bool = True) -> ModelFolder:
    """Read and check a model folder.

    Args:
        model: "demo", a hub id that was exported before, or the path of the folder.
        verify: whether the sha256 of each file is compared with the manifest, not only its size.

    Raises:
        ModelError: the folder is missing, incomplete, altered, or of a newer schema version.
    """
    path = find_model(model)
    return ModelFolder.of(path, read_manifest(path), verify)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.json` into a folder, in place of one that is there."""
    new = folder / f".{MANIFEST}.new"
    new.write_bytes(indented_json(manifest))
    new.replace(folder / MANIFEST)


class _Versioned(msgspec.Struct):
    schema_version: int


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a model folder, of this schema version or an earlier one.

    Args:
        path: path of the folder.

    Raises:
        ModelError: the folder has no manifest; or it is damaged, of a newer version, or describes a
            model that nothing can run.
    """
    file = path / MANIFEST
    try:
        if not os.path.isfile(file):  # a pipe would be waited for
            raise FileNotFoundError(file)
        text = file.read_bytes()
    except OSError as error:
        source = f"'{path}'" if (path / "config.json").exists() else "CHECKPOINT"
        raise ModelError(
            f"'{path}' is not a model folder: no readable {MANIFEST}",
            f"make one with: pnp-ovss export {source} -o DIR (or use the model 'demo')",
        ) from error
    try:
        version = decode_json(text, _Versioned).schema_version
        if version < 1:
            raise ModelError(f"'{file}' is damaged: schema version {version}", AGAIN)
        if version > SCHEMA_VERSION:
            raise ModelError(
                f"'{path}' has schema version {version}; this one reads up to {SCHEMA_VERSION}",
                "it was written by a newer pnp-ovss: pip install --upgrade pnp-ovss",
            )
        manifest = _decode(text, version)
    except ValueError as error:
        raise ModelError(f"'{file}' is damaged: {error}", AGAIN) from error
    wrong = _unusable(manifest)
    if wrong:
        raise ModelError(f"'{file}' cannot be used: {wrong}", AGAIN)
    missing = sorted(_required(manifest, version) - manifest.files.keys())
    if missing:
        raise ModelError(f"'{file}' does not list {', '.join(missing)}", AGAIN)
    return manifest


def _decode(text: bytes, version: int) -> Manifest:
    return upgrade(text) if version == 1 else decode_json(text, Manifest)


def _required(manifest: Manifest, version: int) -> set[str]:
    """List the files that a folder must have; version 1 could lack graphs of some settings."""
    graphs = [graph for graph in manifest.graphs.values() if version > 1 or not graph.only_for]
    return {TOKENIZER, *chain.from_iterable(graph.files for graph in graphs)}


def _unusable(manifest: Manifest) -> str:
    """Say why a manifest describes a model that nothing can run; "" where it can be run."""
    if manifest.dtype != "float32":
        return f"its dtype is {manifest.dtype!r}, and only 'float32' is known"
    preprocess, text = manifest.preprocess, manifest.text
    (height, width), patch = preprocess.sides, preprocess.patch
    if patch < 1 or height < 1 or width < 1 or height % patch or width % patch:
        return f"its image size {height}x{width} is no multiple of its patch size {patch}"
    if not all(math.isfinite(one) for one in preprocess.mean) or not all(
        math.isfinite(one) and one > 0 for one in preprocess.std
    ):
        return f"its mean {preprocess.mean} and deviation {preprocess.std} normalize nothing"
    if text.context < 3:
        return f"its captions have {text.context} tokens"
    ids = (text.first_id, text.last_id, text.pad_id)
    if not all(0 <= one < 2**31 for one in ids):
        return f"its tokens {', '.join(map(str, ids))} are none"
    for name in manifest.files:
        if "\0" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            return f"its file {name!r} is not inside of it"
    for name, graph in manifest.graphs.items():
        wrong = graph.unusable()
        if wrong:
            return f"its graph {name!r} {wrong}"
    return ""


def record_of(path: Path) -> FileRecord:
    """Measure the size and sha256 of a file."""
    with path.open("rb") as file:
        digest = sha256_of(file.fileno())
        return FileRecord(os.fstat(file.fileno()).st_size, digest)
