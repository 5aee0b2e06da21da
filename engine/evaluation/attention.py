"""Leave the gradient out of a model, so that salience is the attention alone."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ..errors import ModelError, writing_to
from ..model.folder import ModelFolder, record_of, write_manifest

ONE = "gradient_left_out"


@contextmanager
def attention_only(model: ModelFolder) -> Iterator[Path]:
    """Copy a model folder so that salience is the attention A, not A * max(G, 0).

    The copy is temporary, and has no builds.

    Raises:
        ModelError: the graph has no gradient to leave out.
        OutputError: the copy cannot be written.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        salience = model.graph("salience").file
        path = folder / salience
        with writing_to(folder, "set TMPDIR to a folder with more space"):
            for name in model.manifest.files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model.path / name, folder / name)
            graph = onnx.load(path, load_external_data=False)
            _leave_out_gradient(graph.graph)
            onnx.save(graph, path)
            files = {**model.manifest.files, salience: record_of(path)}
            write_manifest(replace(model.manifest, files=files), folder)
        yield folder


def _leave_out_gradient(graph: onnx.GraphProto) -> None:
    """Replace each max(G, 0) by 1 in the scale of the graph, which has no other use for Relu."""
    positive = {node.output[0] for node in graph.node if node.op_type == "Relu"}
    if not positive:
        raise ModelError("its graph has no gradient to leave out", "export the model again")
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in positive:
                node.input[position] = ONE
    one = np.asarray(1 / _unscaling(graph), np.float32)
    graph.initializer.append(numpy_helper.from_array(one, ONE))


def _unscaling(graph: onnx.GraphProto) -> float:
    """Find the factor that undoes the scale of the gradient in the rows of salience."""
    constants = {one.name: one for one in graph.initializer}
    masks = {node.output[0] for node in graph.node if "attention_mask" in node.input}
    for node in graph.node:
        if node.op_type == "Mul" and node.input[0] in masks and node.input[1] in constants:
            return float(numpy_helper.to_array(constants[node.input[1]]))
    return 1.0  # a graph of an earlier export, which has no scale
