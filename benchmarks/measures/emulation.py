"""Emulates on a CPU what a graph in low precision computes on a GPU.

ONNX Runtime's CPU provider multiplies no bfloat16 matrices, and rounds the sums of float16 matrices
after each addition. A tensor core multiplies numbers of low precision exactly, adds in float32, and
rounds the result once. So every node in low precision becomes a node in float32 whose result is
rounded, by a cast to low precision and a cast back. Two differences from a GPU remain: the order of
additions, and the rounding between nodes, which a GPU skips where it fuses them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.methods.pnp_ovss import Graphs
from pnp_ovss.engine.model.folder import ModelFolder
from pnp_ovss.engine.precision import Precision
from pnp_ovss.engine.runners import Runners
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.export.graphs import loading
from pnp_ovss.export.graphs.precision import FLOAT, LOW, MOVES, convert


def open_emulated(model: ModelFolder, precision: Precision, folder: Path) -> Graphs:
    """Open the graphs of a model in an emulated precision, on ONNX Runtime.

    Args:
        model: Model folder.
        precision: Precision to emulate; in "fp32" nothing is emulated.
        folder: Folder for the converted graphs.
    """

    def load(graph: str) -> OnnxRuntimeRunner:
        path = folder / precision / f"{graph}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        emulated = emulate(convert(loading.load(model.graph_path(graph)), precision))
        ir.save(emulated, path, external_data=f"{path.name}_data")
        return OnnxRuntimeRunner(path)

    runners = Runners(load, CPU, ["vision", "salience"])
    return Graphs(runners, Captioner.load(model), model.manifest)


def emulate(model: ir.Model) -> ir.Model:
    """Convert a graph in mixed precision to float32, with the same rounding.

    Args:
        model: Graph that `export.graphs.precision.convert` returned; it is changed in place.

    Returns:
        The same graph.
    """
    ShapeInferencePass()(model)
    for weight in model.graph.initializers.values():
        if _is_low(weight):
            assert weight.const_value
            exact = weight.const_value.numpy().astype(np.float32)
            weight.const_value, weight.dtype = ir.tensor(exact, name=weight.name), FLOAT
    for node in list(model.graph):
        for value in filter(_is_low, node.outputs):
            _round(node, value)
    return model


def _round(node: ir.Node, value: ir.Value) -> None:
    """Round the result of a node to its low precision, as float32, for all nodes that use it."""
    if node.op_type in MOVES:
        value.dtype = FLOAT
        return
    users = list(value.uses())
    nodes = []
    rounded = value
    if node.op_type != "Cast":
        nodes.append(ir.node("Cast", [value], {"to": value.dtype}))
        rounded = nodes[-1].outputs[0]
        rounded.dtype, value.dtype = value.dtype, FLOAT
    nodes.append(ir.node("Cast", [rounded], {"to": FLOAT}))
    node.append(nodes)
    for user, index in users:
        user.replace_input_with(index, nodes[-1].outputs[0])


def _is_low(value: ir.Value) -> bool:
    return value.dtype in LOW.values()
