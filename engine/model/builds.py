"""Builds of a model: what TensorRT and the like made of its graphs, and which may run here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import platformdirs

from ..errors import AbsentError, BackendError, InputError, reason
from ..precision import Precision, PrecisionChoice
from .folder import DEMO, ModelFolder, find_model, record_of
from .manifest import FileRecord
from .signature import Graph, Profile

BATCHES = (1, 4, 16)
MOST_EXACT_FIRST: tuple[Precision, ...] = ("fp32", "fp16", "bf16")

_RECORD = ".json"
_SUFFIXES = {"aotinductor": ".pt2"}


class Recipe(msgspec.Struct, frozen=True):
    """What a build is made from and for.

    Attributes:
        target: what runs it, "tensorrt" and the like.
        graph: its name in the manifest.
        precision: of the arithmetic.
        graph_sha256: of the exported graph and its weights.
        profiles: the shapes that it takes, in the order of its optimization profiles; empty where
            it takes any.
        architectures: that it runs on: "sm_86" and the like, or "cpu".
        version: of the package that makes it; no other loads it.
    """

    target: str
    graph: str
    precision: Precision
    graph_sha256: str
    profiles: list[Profile]
    architectures: list[str]
    version: str

    @property
    def for_cpu(self) -> bool:
        """Whether it runs on a CPU, not on a GPU."""
        return all(name.startswith("cpu") for name in self.architectures)

    @property
    def file_name(self) -> str:
        """Readable, and different for every recipe."""
        key = hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]
        places = "+".join(self.architectures)
        suffix = _SUFFIXES.get(self.target, ".engine")
        return f"{self.graph}-{self.target}-{self.precision}-{places}-{key}{suffix}"


class Record(msgspec.Struct, frozen=True):
    """What lies beside a build, as JSON: how it was made, and what the file should be."""

    recipe: Recipe
    file: FileRecord


class Build(NamedTuple):
    """A build that was made: its file, and its record."""

    path: Path
    record: Record


def builds_folder(model: ModelFolder) -> Path:
    """Where the builds of a model are: in its folder.

    Those of the demo model are in the user's cache, as its own folder is part of the installation.
    """
    if model.path == find_model(DEMO):
        return platformdirs.user_cache_path("pnp-ovss") / "builds" / DEMO
    return model.path / "builds"


def graphs_to_build(
    model: ModelFolder, settings: Mapping[str, str], only: Sequence[str] = ()
) -> list[str]:
    """The graphs of a model to build, in the order of the manifest.

    Args:
        model: the model folder.
        settings: build what runs with these, such as {"drop_mode": "tokens"}.
        only: build these instead, whatever the settings run.

    Raises:
        InputError: there is no such graph.
        ModelError: an earlier version exported the model, and did not write one of them.
    """
    graphs = model.manifest.graphs
    unknown = sorted(set(only) - graphs.keys())
    if unknown:
        raise InputError(f"there is no graph {unknown[0]!r}", f"there are: {', '.join(graphs)}")
    chosen = [
        name
        for name, graph in graphs.items()
        if (name in only if only else graph.only_for.items() <= settings.items())
    ]
    for name in chosen:
        model.graph(name)
    return chosen


def profiles(
    graph: Graph, batches: Sequence[int], lengths: Mapping[str, Sequence[int]] | None = None
) -> list[Profile]:
    """The shapes to build a graph for.

    Args:
        graph: as the manifest has it.
        batches: numbers of rows in a call.
        lengths: of rows that may be padded, by the dimension's name; the others are the manifest's.

    Returns:
        Each batch with each length; and where rows may share what another dimension counts, each of
        these with as many of that as there are rows, and with one.
    """
    rows, shared, padded = map(graph.dimension, ("rows", "shared", "padded"))
    own = {**graph.lengths, **(lengths or {})}
    found: list[Profile] = []
    for batch in sorted(set(batches)) if rows else [1]:
        for length in sorted(set(own[padded])) if padded else [0]:
            for count in sorted({1, batch}) if shared else [1]:
                sizes = ((shared, count), (rows, batch), (padded, length))
                found.append({name: size for name, size in sizes if name})
    return found


def build_command(
    model: ModelFolder, target: str, graph: str, precision: PrecisionChoice = "auto"
) -> str:
    """What makes a build of a graph."""
    command = f"pnp-ovss build '{model.path}' --target {target}"
    if precision != "auto":
        command += f" --precision {precision}"
    only_for = model.graph(graph).only_for
    return command + "".join(
        f" --{name.replace('_', '-')} {value}" for name, value in only_for.items()
    )


def graph_sha256(model: ModelFolder, graph: str) -> str:
    """What tells one export of a graph, weights included, from another."""
    own = model.graph(graph)
    parts = (model.manifest.files[name].sha256 for name in (own.file, own.weights))
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
    """The build of a graph that may run here; of several, the one that was made last.

    Args:
        model: the model folder.
        graph: its name in the manifest.
        target: what is to run it.
        architecture: of the device; asked for where there is a build, as is `version`.
        version: of the target's package that is installed.
        precision: "auto" is the most exact that was built.

    Raises:
        BackendError: none was built; or for another graph, architecture, version or precision; or
            the file is damaged.
    """
    build = build_command(model, target, graph, precision)
    built = [
        one
        for one in recorded(model)
        if (one.record.recipe.target, one.record.recipe.graph) == (target, graph)
    ]

    def none_of(what: str) -> AbsentError:
        return AbsentError(
            f"'{model.path}' has no {target} build of {what}", build, f"no build of {what}"
        )

    def narrow(built: list[Build], field: str, wanted: str, refusal: str) -> list[Build]:
        """Those that have what is wanted."""
        fitting = [one for one in built if wanted in _values(one, field)]
        if not fitting:
            there = ", ".join(sorted({value for one in built for value in _values(one, field)}))
            raise BackendError(
                f"the {target} build of {graph} {refusal.format(there, wanted)}", build
            )
        return fitting

    if not built:
        raise none_of(graph)
    here = architecture()
    built = [one for one in built if one.record.recipe.for_cpu == here.startswith("cpu")]
    if not built:
        raise none_of(f"{graph} for a {'CPU' if here.startswith('cpu') else 'GPU'}")
    sha256 = graph_sha256(model, graph)
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
            f"the build '{path}' is damaged: its sha256 is not that of its record", build
        )
    return path, record.recipe


def has_build(model: ModelFolder, target: str, *, for_cpu: bool) -> bool:
    """Whether something was built for a target, on whatever GPU or CPU, that can be read."""
    try:
        recipes = [one.record.recipe for one in recorded(model)]
    except BackendError:
        return False
    return any(one.target == target and one.for_cpu == for_cpu for one in recipes)


def recorded(model: ModelFolder) -> list[Build]:
    """Every build of a model, in the order in which they were made.

    Raises:
        BackendError: a record cannot be read.
    """
    records = builds_folder(model).glob(f"[!.]*{_RECORD}")
    return [
        Build(path.with_suffix(""), read(path))
        for path in sorted(records, key=lambda path: path.stat().st_mtime_ns)
    ]


def record_path(build: Path) -> Path:
    """Where the record of a build is."""
    return build.with_name(build.name + _RECORD)


def is_whole(build: Path, record: Record) -> bool:
    """Whether the file is what was made."""
    try:
        return record_of(build) == record.file
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
            f"'{path}' cannot be read: {reason(error)}", "delete it, and build it again"
        ) from error


def _values(built: Build, field: str) -> list[str]:
    value = getattr(built.record.recipe, field)
    return value if isinstance(value, list) else [value]
