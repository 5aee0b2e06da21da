"""Writes the fused graph of a model folder, into the folder or to any place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import onnx_ir as ir

from ...engine.errors import InputError, OutputError, writing_to
from ...engine.model.folder import (
    DEMO,
    ModelFolder,
    find_model,
    open_model,
    quoted,
    record_of,
    write_manifest,
)
from ...engine.model.manifest import Manifest
from ...engine.model.signature import Graph
from ...engine.paths import absolute, expanded
from ..graphs import WEIGHTS
from ..models.base import FamilyGraph
from ..output import atomic_folder, check_target, copy_folder
from .graph import Fused, fused_graph

NAME = "segment"  # of the graph, in the manifest
METADATA = "pnp_ovss"  # key of the ONNX file's metadata
_INLINE = 1 << 14  # bytes of a constant that is stored in the graph itself


def write_fused(model: ModelFolder, fused: Fused, path: Path) -> list[Path]:
    """Write a fused graph and, into the same folder, the weights that it refers to.

    In another folder than that of the model's graphs, the weights are copies.

    Args:
        model: model folder.
        fused: what is fixed in the graph.
        path: path of the ONNX file, in a folder that exists.

    Returns:
        The paths of the ONNX file and of all files of weights.

    Raises:
        ModelError: the model has no fused graph, or is damaged.
        InputError: the classes cannot be written, or the name of the file cannot be had.
        OutputError: a file cannot be written.
    """
    shared = [model.path / name for name in _shared_weights(model)]
    if path.name + WEIGHTS in {file.name for file in shared}:
        raise InputError(
            f"'{path}' would share the file of weights of another graph",
            f"choose another name, such as {NAME}.onnx",
        )
    composed = fused_graph(model, fused)
    with writing_to(path, "choose another place"):
        own = _save(composed, path)
        copies = [path.parent / file.name for file in shared]
        for source, target in zip(shared, copies, strict=True):
            _copy(source, target)
    return [own[0], *copies, *own[1:]]


def add_fused(
    folder: Path,
    fused: Fused,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Add a fused graph, `onnx/segment.onnx`, to a model folder and its manifest.

    The manifest is replaced last: a folder is always that of before or the new one.

    Args:
        folder: model folder.
        fused: what is fixed in the graph.
        overwrite: whether a fused graph that is there is replaced.
        say: function that is called with a message at each step.

    Returns:
        The new manifest.

    Raises:
        ModelError: the model has no fused graph, or is damaged.
        InputError: the classes cannot be written, or do not fit into one caption.
        OutputError: the folder has a fused graph, belongs to the installation, or cannot be
            written.
    """
    model = open_model(folder)
    try:
        if model.path == find_model(DEMO):
            raise OutputError(
                f"the model {DEMO!r} is part of the installation", "write a copy of it: -o DIR"
            )
        before = model.manifest.graphs.get(NAME)
        if before and not overwrite:
            raise OutputError(
                f"'{model.path}' has a fused graph already", "replace it with --overwrite"
            )
        say(f"composing the graph {NAME}")
        composed = fused_graph(model, fused)
        with writing_to(model.path, f"write a copy of the folder: {quoted(model.path)} -o DIR"):
            return _add(model, composed, before)
    finally:
        model.files.close()


def copy_with_fused(
    folder: Path,
    output: Path,
    fused: Fused,
    *,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write a copy of a model folder with a fused graph, in place of one that the folder has.

    Args:
        folder: model folder.
        output: path of the copy, which appears complete or not at all.
        fused: what is fixed in the graph.
        overwrite: whether a model folder at `output` is replaced.
        say: function that is called with a message at each step.

    Returns:
        The manifest of the copy.

    Raises:
        ModelError: the model has no fused graph, or is damaged.
        InputError: the classes cannot be written, or do not fit into one caption.
        OutputError: the copy exists, or cannot be written.
    """
    output = absolute(expanded(output))
    check_target(output, overwrite)
    with atomic_folder(output) as work:
        copy_folder(folder, work)
        return add_fused(work, fused, overwrite=True, say=say)


def _add(model: ModelFolder, composed: FamilyGraph, before: Graph | None) -> Manifest:
    """Write a fused graph into its folder, in place of the one before."""
    onnx = model.graph_path("salience").parent
    with tempfile.TemporaryDirectory(dir=onnx, prefix=f".{NAME}.") as work:
        written = _save(composed, Path(work) / f"{NAME}.onnx")
        names = [(onnx / file.name).relative_to(model.path).as_posix() for file in written]
        without = _without(model, before)
        manifest = replace(
            without,
            # its own files have these names, the ONNX file first
            graphs={
                **without.graphs,
                NAME: composed.record(names[0], [*_shared_weights(model), *names[1:]]),
            },
            files=without.files
            | {name: record_of(file) for name, file in zip(names, written, strict=True)},
        )
        if before:  # whose files are replaced one by one
            write_manifest(without, model.path)
        for file in written:
            file.replace(onnx / file.name)
    write_manifest(manifest, model.path)
    for name in model.manifest.files.keys() - manifest.files.keys():
        (model.path / name).unlink(missing_ok=True)
    return manifest


def _without(model: ModelFolder, fused: Graph | None) -> Manifest:
    """Return a manifest without its fused graph, and without graphs that an old folder lacks."""
    graphs = {
        name: graph
        for name, graph in model.manifest.graphs.items()
        if name != NAME and model.has_graph(name)
    }
    others = {name for graph in graphs.values() for name in graph.files}
    gone = set(fused.files if fused else ()) - others
    files = {name: of for name, of in model.manifest.files.items() if name not in gone}
    return replace(model.manifest, graphs=graphs, files=files)


def _shared_weights(model: ModelFolder) -> list[str]:
    """List the files of weights that a fused graph refers to, from the model folder."""
    files = (file for name in ("vision", "salience") for file in model.graph(name).weight_files)
    return list(dict.fromkeys(files))


def _save(composed: FamilyGraph, path: Path) -> list[Path]:
    """Write a composed graph, and the weights that are its own, if any; return the paths."""
    model = composed.model
    model.metadata_props[METADATA] = msgspec.json.encode(composed.baked).decode()
    own = [value for value in model.graph.initializers.values() if _is_own(value)]
    if not own:
        ir.save(model, path)
        return [path]
    data = path.with_name(path.name + WEIGHTS)
    written = ir.external_data.convert_tensors_to_external(
        [value.const_value for value in own if value.const_value], path.parent, data.name
    )
    for value, tensor in zip(own, written, strict=True):
        value.const_value = tensor
    ir.save(model, path)
    return [path, data]


def _is_own(value: ir.Value) -> bool:
    tensor = value.const_value
    return (
        tensor is not None and not isinstance(tensor, ir.ExternalTensor) and tensor.nbytes > _INLINE
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a file, in place of one that is there."""
    if target.exists() and target.samefile(source):
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as work:
        new = Path(work) / target.name
        shutil.copyfile(source, new)
        new.replace(target)
