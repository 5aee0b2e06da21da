"""Find the builds of TensorRT that one model of Triton Inference Server can be made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from ...engine.errors import BackendError
from ...engine.model import builds
from ...engine.model.builds import Build, Recipe
from ...engine.model.folder import ModelFolder
from ...engine.model.signature import Profile, Signature, Tensor


class Plans(NamedTuple):
    """Builds of a graph that differ only in the GPUs that they are for.

    Attributes:
        files: file of the build for each architecture, such as "sm_86".
        profiles: shapes that each of the builds takes, in the order of its profiles.
        largest: largest batch; the builds take every smaller one, too.
    """

    files: dict[str, Path]
    profiles: list[Profile]
    largest: int


def find_plans(model: ModelFolder, graph: str, say: Callable[[str], None]) -> Plans:
    """Find TensorRT's builds of a graph: the newest, and what others have of it for other GPUs.

    Args:
        model: model folder.
        graph: name of the graph in the manifest.
        say: function that is called with a note on builds that are left out.

    Raises:
        BackendError: there is none that can be served; the error tells why, and what makes one.
    """
    command = f"{builds.build_command(model, 'tensorrt', graph)} --graph {graph} --batch 1,2,3,4"
    if builds.recorded(model, "tensorrt-rtx", graph):
        say(f"note: Triton cannot load builds of tensorrt-rtx; those of {graph} are left out")
    recorded = builds.recorded(model, "tensorrt", graph)
    if not recorded:
        raise BackendError(f"'{model.path}' has no tensorrt build of {graph}", command)
    sha256 = builds.graph_sha256(model, graph)
    fitting = [one for one in recorded if one.record.recipe.graph_sha256 == sha256]
    if not fitting:
        raise BackendError(f"the tensorrt builds of {graph} are of an earlier export", command)
    newest = fitting[-1].record.recipe
    alike = [one for one in fitting if _for_any_gpu(one.record.recipe) == _for_any_gpu(newest)]
    if len(alike) < len(recorded):
        say(
            f"note: only builds of {graph} by tensorrt {newest.version} in {newest.precision} and"
            f" with the shapes of the newest are served; left out: {len(recorded) - len(alike)}"
        )
    rows = str(model.graph(graph).dimension("rows"))
    batches = {profile[rows] for profile in newest.profiles}
    largest = next(size for size in count() if size + 1 not in batches)
    if not largest:
        raise BackendError(f"the tensorrt build of {graph} takes no single image", command)
    if len(batches) > largest:
        say(
            f"note: the server forms batches of any size, and the build of {graph} lacks that of"
            f" {largest + 1}: it is served with batches up to {largest}; {command} makes more"
        )
    return Plans(_by_architecture(alike, command), newest.profiles, largest)


def compute_capability(architecture: str) -> str:
    """Write an architecture as the server does: "8.6" for sm_86, "12.0" for sm_120."""
    digits = architecture.removeprefix("sm_")
    return f"{digits[:-1]}.{digits[-1]}"


def in_profiles(graph: Signature, profiles: Sequence[Profile]) -> Signature:
    """Fill in the dimensions that are alike in all profiles of a build, but for the batch."""
    rows = graph.dimension("rows")
    sizes = {name: {profile[name] for profile in profiles} for name in profiles[0] if name != rows}
    fixed = {name: found.pop() for name, found in sizes.items() if len(found) == 1}

    def fill(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: Tensor(
                tensor.dtype,
                tuple(fixed.get(one, one) if isinstance(one, str) else one for one in tensor.shape),
            )
            for name, tensor in tensors.items()
        }

    return Signature(inputs=fill(graph.inputs), outputs=fill(graph.outputs), roles=graph.roles)


def _for_any_gpu(recipe: Recipe) -> Recipe:
    return replace(recipe, architectures=[])


def _by_architecture(alike: Sequence[Build], command: str) -> dict[str, Path]:
    """Return the newest file for each architecture.

    Raises:
        BackendError: a file is damaged.
    """
    files: dict[str, Path] = {}
    for path, record in alike:
        if not builds.is_whole(path, record):
            raise BackendError(
                f"the build '{path}' is damaged: its sha256 is not that of its record", command
            )
        files |= dict.fromkeys(record.recipe.architectures, path)
    return files
