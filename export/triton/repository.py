"""Write a model repository for Triton Inference Server, from a model folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from ...engine.errors import BackendError
from ...engine.model.builds import BATCHES
from ...engine.model.folder import DEMO, ModelFolder
from ...engine.model.signature import Signature
from ...engine.paths import absolute, expanded
from ..fused import Fused, write_fused
from ..fused.write import NAME
from ..graphs import builder
from ..output import atomic_folder, require_free
from .config import onnx_config, plan_config
from .plans import compute_capability, find_plans, in_profiles

ONNX_MODEL = "pnp_ovss"
PLAN_MODEL = "pnp_ovss_tensorrt"
_FILE = "model.onnx"
_VERSION = "1"
_CONFIG = "config.pbtxt"


def write_repository(
    model: ModelFolder,
    fused: Fused,
    output: Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Write a model repository: the fused graph, and TensorRT's builds of it where there are any.

    Args:
        model: model folder.
        fused: what is fixed in the graph. Pixels are its input as uint8 in any case.
        output: path of the new repository, which appears complete or not at all.
        overwrite: whether an existing repository that this function wrote is replaced.
        say: function that is called with a message at each step.

    Returns:
        The names of the models in it.

    Raises:
        InputError: the graph cannot be made for what is to be fixed in it.
        ModelError: the model folder has no graphs that can be fused.
        OutputError: the folder exists, or cannot be written.
    """
    output = check_target(output, overwrite)
    fused = replace(fused, uint8=True)
    with atomic_folder(output, "--triton") as work:
        say(f"writing the model {ONNX_MODEL}")
        folder = work / ONNX_MODEL / _VERSION
        folder.mkdir(parents=True)
        write_fused(model, fused, folder / _FILE)
        inputs, outputs = builder.signature(ir.load(folder / _FILE))
        graph = Signature(inputs=inputs, outputs=outputs)
        _write_config(folder, onnx_config(ONNX_MODEL, _FILE, graph, BATCHES))
        try:
            _write_plans(model, fused, graph, work, say)
        except BackendError as error:
            say(f"note: {PLAN_MODEL} is left out: {error.cause}; {error.cure}")
            return [ONNX_MODEL]
        return [ONNX_MODEL, PLAN_MODEL]


def check_target(output: Path, overwrite: bool) -> Path:
    """Refuse an output folder that would overwrite something, such as models of others.

    Returns:
        The path of the folder, absolute.

    Raises:
        OutputError: the folder exists and is no such repository, or may not be replaced.
    """
    output = absolute(expanded(output))
    kind = "a Triton model repository of pnp-ovss alone"
    is_one = _is_repository(output)
    require_free(output, kind, is_one=is_one, overwrite=overwrite, option="--triton")
    return output


def _write_plans(
    model: ModelFolder, fused: Fused, graph: Signature, work: Path, say: Callable[[str], None]
) -> None:
    """Write the model of TensorRT's builds.

    Raises:
        BackendError: the model folder has no builds of the same graph that can be served.
    """
    _require_same(model, fused, graph)
    plans = find_plans(model, NAME, say)
    say(f"writing the model {PLAN_MODEL}")
    folder = work / PLAN_MODEL / _VERSION
    folder.mkdir(parents=True)
    names: dict[str, str] = {}
    for architecture, file in plans.files.items():
        name = names[compute_capability(architecture)] = f"{architecture}.plan"
        shutil.copyfile(file, folder / name)
    built = in_profiles(model.graph(NAME), plans.profiles)
    batches, profiles = (plans.largest,), len(plans.profiles)
    _write_config(folder, plan_config(PLAN_MODEL, names, built, batches, profiles))


def _require_same(model: ModelFolder, fused: Fused, graph: Signature) -> None:
    """Refuse a model folder whose fused graph is none, or another than the repository's.

    Raises:
        BackendError: it is.
    """
    copy = " -o DIR" if model.argument == DEMO else ""  # it is part of the installation
    again = f"pnp-ovss export {model.argument}{copy} --fused --uint8"
    if not model.has_graph(NAME):
        raise BackendError(f"'{model.path}' has no graph {NAME} to build", again)
    stored = model.graph(NAME)
    if (stored.baked, stored.inputs) != (fused.baked, graph.inputs):
        raise BackendError(
            f"the graph {NAME} of '{model.path}' has other inputs, or other things fixed in it",
            f"give the same options to {again} --overwrite, then build it",
        )


def _write_config(version: Path, text: str) -> None:
    (version.parent / _CONFIG).write_text(text, encoding="utf-8")


def _is_repository(path: Path) -> bool:
    """Tell whether a folder holds models that `write_repository` writes, and nothing else."""
    names = _names(path)
    if ONNX_MODEL not in names or not names <= {ONNX_MODEL, PLAN_MODEL}:
        return False
    return all(_names(path / name) == {_VERSION, _CONFIG} for name in names)


def _names(folder: Path) -> set[str]:
    """Return the names of what is in a folder; none of what is no folder."""
    try:
        return {one.name for one in folder.iterdir()}
    except OSError:
        return set()
