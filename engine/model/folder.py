"""The model folder: its manifest, where models are found, and the check that they are whole."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

import msgspec
import platformdirs

from ..errors import InputError, ModelError, reason
from .manifest import AGAIN, MANIFEST, SCHEMA_VERSION, FileRecord, Manifest

TOKENIZER = "tokenizer.json"
VISION = "onnx/vision.onnx"
SALIENCE = "onnx/salience.onnx"
VISION_TOKENS = "onnx/vision_tokens.onnx"  # of some tokens only; earlier versions did not write it
WEIGHTS = "_data"  # ends the name of the file of a graph's weights
GRAPHS = (VISION, SALIENCE, VISION_TOKENS)
FILES = {TOKENIZER, VISION, VISION + WEIGHTS, SALIENCE, SALIENCE + WEIGHTS}

DEMO = "demo"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that was found and checked."""

    path: Path
    manifest: Manifest


def weights_of(graph: Path) -> Path:
    """The file of a graph's weights; both graphs of the image encoder have the same."""
    owner = VISION if graph.name == Path(VISION_TOKENS).name else graph
    return graph.with_name(Path(owner).name + WEIGHTS)


def graphs_to_build(model: ModelFolder, drop_mode: str, only: Sequence[str] = ()) -> list[str]:
    """The graphs of a model to build, in the order of `GRAPHS`.

    Args:
        model: the model folder.
        drop_mode: those that it runs.
        only: these instead, whatever the drop mode runs: "vision" and the like.

    Raises:
        InputError: a name is no graph's.
        ModelError: as `require_graph`.
    """
    unknown = sorted(set(only) - {graph_name(graph) for graph in GRAPHS})
    if unknown:
        raise InputError(
            f"there is no graph {unknown[0]!r}", f"there are: {', '.join(map(graph_name, GRAPHS))}"
        )
    needed = [
        graph
        for graph in GRAPHS
        if (graph_name(graph) in only if only else graph != VISION_TOKENS or drop_mode == "tokens")
    ]
    if VISION_TOKENS in needed:
        require_graph(model, VISION_TOKENS)
    return needed


def graph_name(graph: str) -> str:
    """What a graph is called: "vision" of `VISION`, and the like."""
    return PurePosixPath(graph).stem


def cure_by_copying(graph: Path, otherwise: str) -> str:
    """What helps where a library refuses a graph.

    Some do if files are symbolic links that leave its folder, as they are in the Hugging Face
    cache: the cure is then a copy first.

    Args:
        graph: the ONNX file.
        otherwise: the cure of a graph that is no such link.
    """
    folder = graph.parent.resolve()
    if all(file.resolve().parent == folder for file in (graph, weights_of(graph))):
        return otherwise
    copy = f"cp -rL '{graph.parent.parent}' COPY"
    return f"its files are links: take a copy ({copy}); if that does not help, {otherwise}"


def require_graph(model: ModelFolder, graph: str) -> None:
    """See that a model folder has a graph.

    Raises:
        ModelError: it was exported by a version that did not write it.
    """
    if graph not in model.manifest.files:
        source, size = model.manifest.checkpoint.source, model.manifest.image_size
        raise ModelError(
            f"'{model.path}' has no {graph}, which drop mode 'tokens' runs: it is of an earlier"
            " version",
            f"export it again: pnp-ovss export {source} -o '{model.path}' --image-size {size}"
            " --overwrite",
        )


def cache_folder(hub_id: str) -> Path:
    """Where the export of a hub id is kept for this user."""
    return platformdirs.user_cache_path("pnp-ovss") / "models" / hub_id.replace("/", "--")


def is_hub_id(model: str) -> bool:
    """Whether a name has the form `organization/name` and no such folder exists here."""
    return bool(_HUB_ID.fullmatch(model)) and not os.path.exists(model)


def find_model(model: str | Path) -> Path:
    """The folder of a model: `"demo"`, a hub id exported earlier, or the folder itself.

    Raises:
        ModelError: there is no such folder.
    """
    name = str(model)
    if name == DEMO:
        return Path(str(resources.files("pnp_ovss.engine") / "data" / "demo"))
    if is_hub_id(name):
        folder = cache_folder(name)
        if not folder.exists():
            raise ModelError(
                f"{name!r} has not been exported on this machine yet",
                f"export it once: pnp-ovss export {name} -o '{folder}'",
            )
        return folder
    folder = Path(os.path.expanduser(name))
    if not os.path.isdir(folder):
        raise ModelError(
            f"no model folder at '{folder}'",
            "make one with: pnp-ovss export CHECKPOINT -o DIR (or use the model 'demo')",
        )
    return folder


def open_model(model: str | Path, *, verify: bool = True) -> ModelFolder:
    """Read and check a model folder.

    Args:
        model: as for `find_model`.
        verify: compare each file's sha256 with the manifest; without it, only its size.

    Raises:
        ModelError: the folder is missing, incomplete, altered, or of a newer schema.
    """
    path = find_model(model)
    manifest = _read_manifest(path)
    for name, record in manifest.files.items():
        _check_file(path, name, record, verify)
    return ModelFolder(path, manifest)


def _read_manifest(path: Path) -> Manifest:
    try:
        text = (path / MANIFEST).read_bytes()
    except OSError as error:
        source = f"'{path}'" if (path / "config.json").exists() else "CHECKPOINT"
        raise ModelError(
            f"'{path}' is not a model folder: no readable {MANIFEST}",
            f"make one with: pnp-ovss export {source} -o DIR (or use the model 'demo')",
        ) from error
    try:
        version = msgspec.json.decode(text, type=_Versioned).schema_version
        if version > SCHEMA_VERSION:
            raise ModelError(
                f"'{path}' has schema version {version}; this one reads up to {SCHEMA_VERSION}",
                "it was written by a newer pnp-ovss: pip install --upgrade pnp-ovss",
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.MsgspecError as error:
        why = " ".join(str(error).split())
        raise ModelError(f"'{path / MANIFEST}' is damaged: {why}", AGAIN) from error
    wrong = _unusable(manifest)
    if wrong:
        raise ModelError(f"'{path / MANIFEST}' cannot be used: {wrong}", AGAIN)
    missing = sorted(FILES - manifest.files.keys())
    if missing:
        raise ModelError(f"'{path / MANIFEST}' does not list {', '.join(missing)}", AGAIN)
    return manifest


def _unusable(manifest: Manifest) -> str:
    """Why this software cannot run such a model; empty where it can."""
    for name, known in (("family", "blip"), ("dtype", "float32")):
        if getattr(manifest, name) != known:
            return f"its {name} is {getattr(manifest, name)!r}, and only {known!r} is known"
    size, patch = manifest.image_size, manifest.patch_size
    if patch < 1 or size < 1 or size % patch:
        return f"its image size {size} is no multiple of its patch size {patch}"
    return ""


class _Versioned(msgspec.Struct):
    schema_version: int


def _check_file(folder: Path, name: str, record: FileRecord, verify: bool) -> None:
    path = folder / name
    try:
        size = path.stat().st_size
        if size != record.size:
            raise ModelError(
                f"model file '{path}' has {size} bytes instead of {record.size}", AGAIN
            )
        if verify and record_of(path).sha256 != record.sha256:
            raise ModelError(
                f"model file '{path}' was changed: its sha256 is not the manifest's", AGAIN
            )
    except FileNotFoundError as error:
        raise ModelError(f"model file '{path}' is missing", AGAIN) from error
    except OSError as error:
        raise ModelError(
            f"model file '{path}' cannot be read: {reason(error)}", "check its permissions"
        ) from error


def record_of(path: Path) -> FileRecord:
    """Size and sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return FileRecord(path.stat().st_size, digest.hexdigest())
