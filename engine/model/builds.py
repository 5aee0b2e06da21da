"""Find the builds of a model: its graphs as compiled by TensorRT, TensorRT-RTX or AOTInductor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..errors import AbsentError, BackendError, InputError, reason
from ..json_text import decode_json
from ..paths import user_cache
from ..precision import Precision, PrecisionChoice
from .folder import DEMO, ModelFolder, find_model, record_of
from .manifest import FileRecord
from .signature import PADDED, Graph, Profile

BATCHES = (1, 4, 16)
MOST_EXACT_FIRST: tuple[Precision, ...] = ("fp32", "fp16", "bf16")

_RECORD = ".json"
_SUFFIXES = {"aotinductor": ".pt2"}


class Recipe(msgspec.Struct, frozen=True):
    """What a build is made from, and what it is made for.

    Attributes:
        target: backend that runs the build: "tensorrt", "tensorrt-rtx" or "aotinductor".
        graph: name of the graph in the manifest.
        precision: precision of the build's arithmetic.
        graph_sha256: digest of the exported graph and its weights.
        profiles: shapes that the build takes, in the order of its optimization profiles; empty
            where it takes any shape.
        architectures: architectures that the build runs on, such as "sm_86" or "cpu".
        version: version of the package that made the build; only that version can load it.
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
        """Name the file of the build: readable, and different for every recipe."""
        key = hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:8]
        places = "+".join(self.architectures)
        suffix = _SUFFIXES.get(self.target, ".engine")
        return f"{self.graph}-{self.target}-{self.precision}-{places}-{key}{suffix}"


class Record(msgspec.Struct, frozen=True):
    """What the JSON file next to a build holds: its recipe, and the size and digest of its file."""

    recipe: Recipe
    file: FileRecord


class Build(NamedTuple):
    """A build in a model folder: the path of its file, and its record."""

    path: Path
    record: Record


def builds_folder(model: ModelFolder) -> Path:
    """Return the folder of a model's builds: `builds/` in the model folder.

    Builds of the demo model are in the user's cache, as its folder is part of the installation.
    """
    if model.path == find_model(DEMO):
        with suppress(InputError):  # this user has none, and so no builds there
            return user_cache() / "builds" / DEMO
    return model.path / "builds"


def graphs_to_build(
    model: ModelFolder, settings: Mapping[str, str], only: Sequence[str] = ()
) -> list[str]:
    """Choose the graphs of a model to build, in the order of the manifest.

    Args:
        model: model folder.
        settings: settings that the graphs must serve, such as {"drop_mode": "tokens"}.
        only: names of graphs; if any are given, these are built whatever the settings.

    Raises:
        InputError: the model has no graph of that name.
        ModelError: an earlier version exported the model, without one of the graphs.
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
    """List the shapes to build a graph for.

    Args:
        graph: entry of the graph in the manifest.
        batches: numbers of rows in a call.
        lengths: sizes of padded dimensions, by their names; by default the manifest's.

    Returns:
        A profile for each batch with each length, and with each number of classes. Where the graph
        has a "shared" dimension, each occurs twice: with as many shared items as rows, and with
        one.
    """
    rows, shared = map(graph.dimension, ("rows", "shared"))
    padded = [name for name in map(graph.dimension, PADDED) if name]
    chosen = {**graph.lengths, **(lengths or {})}
    sizes: list[Profile] = []
    for batch in sorted(set(batches)) if rows else [1]:
        for of_row in product(*(sorted(set(chosen[name])) for name in padded)):
            for count in sorted({1, batch}) if shared else [1]:
                dimensions = ((shared, count), (rows, batch), *zip(padded, of_row, strict=True))
                sizes.append({name: size for name, size in dimensions if name})
    return sizes


def build_command(
    model: ModelFolder,
    target: str,
    graph: str,
    precision: PrecisionChoice = "auto",
    device: str = "auto",
) -> str:
    """Return the `pnp-ovss build` command that makes a build of a graph for a device.

    Of the targets, only aotinductor builds for more than one kind of device.
    """
    command = f"pnp-ovss build {model.argument} --target {target}"
    if target == "aotinductor" and device != "auto":
        command += f" --device {device}"
    if precision != "auto":
        command += f" --precision {precision}"
    only_for = model.graph(graph).only_for
    return command + "".join(
        f" --{name.replace('_', '-')} {value}" for name, value in only_for.items()
    )


def graph_sha256(model: ModelFolder, graph: str) -> str:
    """Return a digest of an exported graph and its weights, in hex."""
    exported = model.graph(graph)
    parts = (model.manifest.files[name].sha256 for name in exported.files)
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def find(
    model: ModelFolder,
    graph: str,
    *,
    target: str,
    architecture: Callable[[], str],
    version: Callable[[], str],
    precision: PrecisionChoice = "auto",
    device: str = "auto",
) -> tuple[Path, Recipe]:
    """Find the build of a graph that may run here; of several, the one that was made last.

    Args:
        model: model folder.
        graph: name of the graph in the manifest.
        target: backend that is to run the build.
        architecture: returns the architecture of the device; called only if the folder has a build
            for the target.
        version: returns the installed version of the target's package; called only then, too.
        precision: precision of the build; "auto" is the most exact that was built.
        device: name of the device, for the command that makes such a build.

    Returns:
        Path and recipe of the build.

    Raises:
        BackendError: the folder has no build of the graph for the target; or only for another
            export, architecture, version or precision; or its file is damaged.
    """
    build = build_command(model, target, graph, precision, device)
    built = recorded(model, target, graph)

    def none_of(what: str) -> AbsentError:
        return AbsentError(
            f"'{model.path}' has no {target} build of {what}", build, f"no build of {what}"
        )

    def narrow(built: list[Build], field: str, wanted: str, refusal: str) -> list[Build]:
        """Keep the builds whose recipe has the wanted value in a field."""
        fitting = [one for one in built if wanted in _values(one, field)]
        if not fitting:
            present = ", ".join(sorted({value for one in built for value in _values(one, field)}))
            raise BackendError(
                f"the {target} build of {graph} {refusal.format(present, wanted)}", build
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
        precisions = {one.record.recipe.precision for one in built}
        precision = next(one for one in MOST_EXACT_FIRST if one in precisions)
    path, record = narrow(built, "precision", precision, "is in {}, not in {}")[-1]
    if not is_whole(path, record):
        raise BackendError(
            f"the build '{path}' is damaged: its sha256 is not that of its record", build
        )
    return path, record.recipe


def has_build(model: ModelFolder, target: str, *, for_cpu: bool) -> bool:
    """Tell whether the model has a readable build for a target, for whatever GPU or CPU."""
    try:
        recipes = [one.record.recipe for one in recorded(model, target)]
    except BackendError:
        return False
    return any(one.for_cpu == for_cpu for one in recipes)


def recorded(model: ModelFolder, target: str = "*", graph: str = "*") -> list[Build]:
    """List the builds of a model, in the order in which they were made.

    Args:
        model: model folder.
        target: only builds for this backend; by default all.
        graph: only builds of this graph; by default all.

    Raises:
        BackendError: the record of such a build cannot be read.
    """
    # By file name first, so that a damaged record of another build does no harm.
    files = builds_folder(model).glob(f"{graph}-{target}-*{_RECORD}")
    records = [path for path in files if not path.name.startswith(".")]  # those are being written
    made = [
        Build(path.with_suffix(""), read(path))
        for path in sorted(records, key=lambda path: path.stat().st_mtime_ns)
    ]
    return [
        one
        for one in made
        if target in ("*", one.record.recipe.target) and graph in ("*", one.record.recipe.graph)
    ]


def record_path(build: Path) -> Path:
    """Return the path of a build's record."""
    return build.with_name(build.name + _RECORD)


def is_whole(build: Path, record: Record) -> bool:
    """Tell whether the file of a build has the size and digest of its record."""
    try:
        return record_of(build) == record.file
    except OSError:
        return False


def read(path: Path) -> Record:
    """Read the record of a build.

    Raises:
        BackendError: the record cannot be read.
    """
    try:
        return decode_json(path.read_bytes(), Record)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"'{path}' cannot be read: {reason(error)}", "delete it, and build it again"
        ) from error


def _values(built: Build, field: str) -> list[str]:
    value: str | list[str] = getattr(built.record.recipe, field)
    return value if isinstance(value, list) else [value]
