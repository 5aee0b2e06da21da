"""Mixed precision: what the graph says. What it computes: `test_precision_numbers`."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import ShapeInferencePass

from pnp_ovss.engine.errors import ModelError
from pnp_ovss.engine.model.folder import find_model
from pnp_ovss.engine.precision import Precision
from pnp_ovss.export.graphs import builder
from pnp_ovss.export.graphs.precision import LOW, MOVES, convert
from tests import thresholds
from tests.conftest import Exported
from tests.feeds import graph_file

GRAPHS = ("vision", "vision_tokens", "salience")
EXACT = {"LayerNormalization", "Softmax", "Gelu", "Erf", "Exp", "Div", "Sqrt", "Relu"}
EXACT |= {"ReduceMean", "ReduceSum"}


@pytest.fixture(scope="module", params=["float32", "float16"])
def folder(request: pytest.FixtureRequest, exported: Exported) -> Path:
    """One model, its weights stored either way."""
    if request.param == "float32":
        return exported.folder
    return request.getfixturevalue("exported_in_float16")


@pytest.fixture(params=GRAPHS)
def path(request: pytest.FixtureRequest, folder: Path) -> Path:
    return graph_file(folder, request.param)


@pytest.fixture(params=LOW)
def precision(request: pytest.FixtureRequest) -> Precision:
    return request.param


@cache
def converted(path: Path, precision: Precision) -> ir.Model:
    """A model that knows the types of all its values, as ONNX infers them. Not to be changed."""
    model = convert(ir.load(path), precision)
    assert ShapeInferencePass()(model).modified
    return model


def types(values: Iterable[ir.Value | None]) -> set[ir.DataType]:
    """Of those that are real numbers."""
    found = {value.dtype for value in values if value}
    return {dtype for dtype in found if dtype and dtype.is_floating_point()}


def weights(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Real numbers of at least one axis."""
    stored = {str(name): value.const_value for name, value in model.graph.initializers.items()}
    return {
        name: tensor
        for name, tensor in stored.items()
        if tensor and tensor.dtype.is_floating_point() and tensor.numpy().ndim
    }


def test_products_are_in_low_precision_but_for_the_head(path: Path, precision: Precision):
    products = [n for n in converted(path, precision).graph if n.op_type in ("MatMul", "Conv")]
    head = [node for node in products if types(node.inputs) == {ir.DataType.FLOAT}]
    names = [
        str(value.name) for node in head for value in node.inputs if value and not value.producer()
    ]
    assert names == (["itm_head.weight.transposed"] if path.name == "salience.onnx" else [])
    assert len(products) > 10
    for node in set(products) - set(head):
        assert types([*node.inputs, *node.outputs]) == {LOW[precision]}, node.name


def test_what_must_be_exact_is_in_float32(path: Path, precision: Precision):
    nodes = [node for node in converted(path, precision).graph if node.op_type in EXACT]
    assert len(nodes) > 10
    for node in nodes:
        assert types([*node.inputs, *node.outputs]) == {ir.DataType.FLOAT}, node.name


def test_the_residual_stream_is_in_float32(path: Path, precision: Precision):
    """Sums of two things that are no weights."""
    model = converted(path, precision)
    sums = [node for node in model.graph if node.op_type == "Add"]
    residual = [n for n in sums if not any(value and value.const_value for value in n.inputs)]
    assert residual
    assert types(value for node in residual for value in node.inputs) == {ir.DataType.FLOAT}


def test_inputs_and_outputs_stay_as_they_are(path: Path, precision: Precision):
    before, after = ir.load(path).graph, convert(ir.load(path), precision).graph
    for old, new in zip(
        (*before.inputs, *before.outputs), (*after.inputs, *after.outputs), strict=True
    ):
        assert (new.name, new.dtype, new.shape) == (old.name, old.dtype, old.shape)


def test_no_cast_is_idle(path: Path, precision: Precision):
    """None repeats another, undoes one, with moves between them or not, or casts a weight."""
    casts = [node for node in converted(path, precision).graph if node.op_type == "Cast"]
    assert casts
    assert max(Counter((n.inputs[0], n.outputs[0].dtype) for n in casts).values()) == 1
    for node in casts:
        (source,) = node.inputs
        assert source
        assert source.dtype != node.outputs[0].dtype
        assert not source.const_value
        origin = source.producer()
        while origin and origin.op_type in MOVES and origin.inputs[0]:
            origin = origin.inputs[0].producer()
        assert not origin or origin.op_type != "Cast", node.name


def test_only_a_power_of_two_scales_in_low_precision(exported: Exported, precision: Precision):
    """Queries, by 1 / sqrt(64) in the demo model, by 1 / sqrt(24) in the other."""
    for folder, dtype in (
        (find_model("demo"), LOW[precision]),
        (exported.folder, ir.DataType.FLOAT),
    ):
        scaled = [
            n
            for n in converted(graph_file(folder, "vision"), precision).graph
            if n.op_type == "Mul"
        ]
        assert scaled
        assert types(value for node in scaled for value in node.outputs) == {dtype}


def test_nothing_is_moved_in_float32_for_products_alone(path: Path, precision: Precision):
    """It would be twice the bytes, and a cast of each."""
    for node in converted(path, precision).graph:
        if node.op_type in MOVES and types(node.outputs) == {ir.DataType.FLOAT}:
            users = {user.op_type for value in node.outputs for user in value.consumers()}
            assert users != {"Cast"}, node.name


def test_each_weight_is_stored_once_in_the_type_it_is_used_in(path: Path, precision: Precision):
    before, model = weights(ir.load(path)), converted(path, precision)
    after = weights(model)
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert types([model.graph.initializers[name]]) == {tensor.dtype}
        wanted = before[name].numpy().astype(tensor.dtype.numpy())
        np.testing.assert_array_equal(tensor.numpy(), wanted)


def test_files_are_half_as_large_and_pass_the_checker(
    path: Path, precision: Precision, tmp_path: Path
):
    _, data = builder.save(convert(ir.load(path), precision), tmp_path / "low.onnx")
    onnx.checker.check_model(str(tmp_path / "low.onnx"), full_check=True)
    whole = 4 * sum(tensor.size for tensor in weights(ir.load(path)).values())
    assert data.stat().st_size == pytest.approx(whole / 2, rel=thresholds.HALF)


def test_float32_is_the_graph_itself(path: Path):
    model = ir.load(path)
    assert convert(model, "fp32") is model


def test_what_is_converted_is_left_as_it_was(path: Path, precision: Precision):
    model, again = ir.load(path), ir.load(path)
    convert(model, precision)
    for one, other in zip(model.graph, again.graph, strict=True):
        assert (one.op_type, one.name) == (other.op_type, other.name)
        assert [v and v.name for v in one.inputs] == [v and v.name for v in other.inputs]
    assert {n: t.dtype for n, t in weights(model).items()} == {
        n: t.dtype for n, t in weights(again).items()
    }


def test_a_weight_too_large_for_float16(exported: Exported):
    model = ir.load(graph_file(exported.folder, "vision"))
    weight = model.graph.initializers["vision_model.encoder.layers.0.mlp.fc1.weight.transposed"]
    assert weight.const_value
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(-1e6), name=weight.name)
    with pytest.raises(ModelError, match=r"fc1.*beyond 65504.*\n.*bf16"):
        convert(model, "fp16")
    convert(model, "bf16")


_BUILD = """
import sys
import tensorrt_rtx as trt

class Log(trt.ILogger):
    text = ""
    def log(self, severity, message):
        self.text += message

log = Log()
builder = trt.Builder(log)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
assert trt.OnnxParser(network, log).parse_from_file(sys.argv[1]), log.text
config = builder.create_builder_config()
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM86, 0)
config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # lists the kernels in the log
profile = builder.create_optimization_profile()
shape = tuple(network.get_input(0).shape)[1:]
profile.set_shape("pixel_values", *((batch, *shape) for batch in (1, 4, 16)))
if network.num_inputs > 1:
    profile.set_shape("kept", *((batch, 129) for batch in (1, 4, 16)))
config.add_optimization_profile(profile)
assert builder.build_serialized_network(network, config), log.text
print(log.text.count("\\nName: _gemm_mha"))
"""


@pytest.mark.parametrize("graph_name", ["vision", "vision_tokens"])
@pytest.mark.slow
def test_tensorrt_fuses_attention_all_the_same(
    precision: Precision, graph_name: str, tmp_path: Path
):
    """One kernel for the scores, the softmax in float32 and the product with the values."""
    pytest.importorskip("tensorrt_rtx")
    demo = graph_file(find_model("demo"), graph_name)
    builder.save(convert(ir.load(demo), precision), tmp_path / "low.onnx")
    command = [sys.executable, "-c", _BUILD, str(tmp_path / "low.onnx")]  # one logger a process
    fused = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert int(fused) == sum(node.op_type == "Softmax" for node in ir.load(demo).graph)


def test_nothing_of_pytorch_is_needed(exported: Exported, tmp_path: Path):
    code = f"""
import sys
sys.modules["torch"] = None  # an import of it fails
import onnx_ir
from pnp_ovss.export.graphs.precision import convert
model = convert(onnx_ir.load({str(graph_file(exported.folder, "salience"))!r}), "bf16")
onnx_ir.save(model, {str(tmp_path / "low.onnx")!r}, external_data="low.onnx_data")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "low.onnx_data").stat().st_size
