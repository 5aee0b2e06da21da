"""Built engines of a model: what each was built from and for, and which one may run here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import platformdirs

from ..errors import BackendError, reason
from ..precision import Precision, PrecisionChoice
from ..settings import Settings
from .folder import (
    DEMO,
    SALIENCE,
    VISION_TOKENS,
    ModelFolder,
    find_model,
    graph_name,
    record_of,
    weights_of,
)
from .manifest import FileRecord, Manifest
from .signature import Profile

BATCHES = (1, 4, 16)
TOKENS = (16, 32, 64)

MOST_EXACT_FIRST: tuple[Precision, ...] = ("fp32", "fp16", "bf16")

_RECORD = ".json"
_SUFFIXES = {"aotinductor": ".pt2"}


class Recipe(msgspec.Struct, frozen=True):
    """What an engine is built from and for.

    Attributes:
        target: what runs it, "tensorrt" and the like.
        graph: "vision", "vision_tokens" or "salience".
        precision: of the arithmetic.
        graph_sha256: of the exported graph and its weights.
        profiles: the shapes that it takes, in the order of its optimization profiles; empty where
            it takes any.
        architectures: that it runs on: "sm_86" and the like, or "cpu".
        version: of the package that builds it. No other loads it.
    """

    target: str
    graph: str
    precision: Precision
    graph_sha256: str
    profiles: list[Profile]
    architectures: list[str]
    version: str

    @property
    def file_name(self) -> str:
        """Readable, and different for every recipe."""
        key = hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]
        places = "+".join(self.architectures)
        suffix = _SUFFIXES.get(self.target, ".engine")
        return f"{self.graph}-{self.target}-{self.precision}-{places}-{key}{suffix}"


class Record(msgspec.Struct, frozen=True):
    """What lies beside an engine, as JSON: how it was built, and what the file should be."""

    recipe: Recipe
    file: FileRecord


class Build(NamedTuple):
    """An engine that was built: its file, and its record."""

    path: Path
    record: Record


def folder(model: ModelFolder) -> Path:
    """Where the engines of a model are: in its folder.

    Those of the demo model are in the user's cache, as its own folder is part of the installation.
    """
    if model.path == find_model(DEMO):
        return platformdirs.user_cache_path("pnp-ovss") / "engines" / DEMO
    return model.path / "engines"


def profiles(
    graph: str, batches: Sequence[int], tokens: Sequence[int], kept: Sequence[int] = ()
) -> list[Profile]:
    """The shapes to build a graph for.

    Args:
        graph: `artifact.VISION` and the like.
        batches: pictures, or captions, in a call.
        tokens: of a caption, padding included.
        kept: tokens of a picture, likewise; see `kept_tokens`.

    Returns:
        Each batch; for the matching branch with each number of tokens, of as many pictures as
        captions, and of one; for the encoder of tokens with each number of those kept.
    """
    batches = sorted(set(batches))
    if graph == SALIENCE:
        return [
            {"images": images, "batch": batch, "tokens": count}
            for batch in batches
            for count in sorted(set(tokens))
            for images in sorted({1, batch})
        ]
    if graph == VISION_TOKENS:
        return [{"batch": batch, "kept": count} for batch in batches for count in sorted(set(kept))]
    return [{"batch": batch} for batch in batches]


def kept_tokens(manifest: Manifest) -> list[int]:
    """How many of a picture's tokens the passes see by default, [CLS] included: first all.

    Other numbers are padded to the next of them.
    """
    return [1 + patches for patches in Settings().patches_left(manifest.grid**2)]


def build_command(model: Path, target: str, graph: str, precision: PrecisionChoice = "auto") -> str:
    """What builds an engine of a graph, by its name in a recipe."""
    command = f"pnp-ovss build '{model}' --target {target}"
    if precision != "auto":
        command += f" --precision {precision}"
    if graph == graph_name(VISION_TOKENS):
        command += " --drop-mode tokens"
    return command


def graph_sha256(manifest: Manifest, graph: str) -> str:
    """What tells one export of a graph, weights included, from another."""
    names = (graph, weights_of(Path(graph)).as_posix())
    parts = (manifest.files[name].sha256 for name in names)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def find(
    model: ModelFolder,
    graph: str,
    *,
    target: str,
    architecture: Callable[[], str],
    version: Callable[[], str],
    precision: PrecisionChoice = "auto",
) -> tuple[Path, Recipe]:
    """The engine of a graph that may run here; of several, the one that was built last.

    Args:
        model: the model folder.
        graph: `artifact.VISION` and the like.
        target: what is to run it.
        architecture: of the device; asked for where an engine was built, as is `version`.
        version: of the target's package that is installed.
        precision: "auto" is the most exact that was built.

    Raises:
        BackendError: none was built; or for another graph, architecture, version or precision; or
            the file is damaged.
    """
    name = graph_name(graph)
    build = build_command(model.path, target, name, precision)
    built = [
        one
        for one in recorded(model)
        if (one.record.recipe.target, one.record.recipe.graph) == (target, name)
    ]
    if not built:
        raise BackendError(f"no {target} engine of {name} was built for '{model.path}'", build)

    def narrow(built: list[Build], field: str, wanted: str, refusal: str) -> list[Build]:
        """Those that have what is wanted."""
        fitting = [one for one in built if wanted in _values(one, field)]
        if not fitting:
            there = ", ".join(sorted({value for one in built for value in _values(one, field)}))
            raise BackendError(
                f"the {target} engine of {name} {refusal.format(there, wanted)}", build
            )
        return fitting

    here = architecture()
    sha256 = graph_sha256(model.manifest, graph)
    built = narrow(
        built, "graph_sha256", sha256, "was built from graph {:.8}; the model's is {:.8}"
    )
    built = narrow(built, "architectures", here, "is for {}; this device is {}")
    built = narrow(built, "version", version(), f"was built by {target} {{}}; installed is {{}}")
    if precision == "auto":
        there = {one.record.recipe.precision for one in built}
        precision = next(one for one in MOST_EXACT_FIRST if one in there)
    path, record = narrow(built, "precision", precision, "is in {}, not in {}")[-1]
    if not is_whole(path, record):
        raise BackendError(
            f"the engine '{path}' is damaged: its sha256 is not that of its record", build
        )
    return path, record.recipe


def recorded(model: ModelFolder) -> list[Build]:
    """Every engine of a model, in the order in which they were built.

    Raises:
        BackendError: a record cannot be read.
    """
    records = folder(model).glob(f"[!.]*{_RECORD}")
    return [
        Build(path.with_suffix(""), read(path))
        for path in sorted(records, key=lambda path: path.stat().st_mtime_ns)
    ]


def record_path(engine: Path) -> Path:
    """Where the record of an engine is."""
    return engine.with_name(engine.name + _RECORD)


def is_whole(engine: Path, record: Record) -> bool:
    """Whether the file is what was built."""
    try:
        return record_of(engine) == record.file
    except OSError:
        return False


def read(path: Path) -> Record:
    """A record.

    Raises:
        BackendError: it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError) as error:
        raise BackendError(
            f"'{path}' cannot be read: {reason(error)}", "delete it, and build the engine again"
        ) from error


def _values(built: Build, field: str) -> list[str]:
    value = getattr(built.record.recipe, field)
    return value if isinstance(value, list) else [value]
