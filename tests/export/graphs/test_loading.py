"""Weights of exported graphs, read without onnx-ir's own reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from pnp_ovss.engine import ModelError
from pnp_ovss.export.graphs.loading import load

VALUES = {
    "float": np.linspace(-1, 1, 300, dtype=np.float32).reshape(3, 100),
    "half": np.linspace(-2, 2, 301, dtype=np.float16),
    "bfloat": np.linspace(-3, 3, 302).astype(ir.DataType.BFLOAT16.numpy()).reshape(2, 151),
    "integer": np.arange(-5, 5),
    "number": np.float32(7).reshape(()),
    "nothing": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A graph of all values, which lie in `data` one after the other."""
    place = tmp_path / "graph.onnx"
    ir.save(model({name: ir.tensor(value, name=name) for name, value in VALUES.items()}), place)
    tensors = {}
    with (tmp_path / "data").open("wb") as file:
        for name, value in VALUES.items():
            tensors[name] = external(name, offset=file.tell())
            file.write(value.tobytes())
    ir.save(model(tensors), place)
    return place


def external(name: str, **changes: Any) -> ir.ExternalTensor:
    """The place of a value in a file."""
    value = VALUES[name]
    options: dict[str, Any] = {"location": "data", "offset": 0, "length": value.nbytes} | changes
    dtype = ir.DataType.from_numpy(value.dtype)
    return ir.ExternalTensor(dtype=dtype, shape=ir.Shape(value.shape), name=name, **options)


def model(tensors: dict[str, ir.TensorProtocol]) -> ir.Model:
    values = [ir.val(name, const_value=tensor) for name, tensor in tensors.items()]
    graph = ir.Graph([], [], nodes=[], initializers=values, opset_imports={"": 20}, name="weights")
    return ir.Model(graph, ir_version=10)


def test_weights_of_every_type(path: Path):
    loaded = load(path).graph.initializers
    assert list(loaded) == list(VALUES)
    for name, value in VALUES.items():
        tensor = loaded[name].const_value
        assert tensor
        assert not isinstance(tensor, ir.ExternalTensor)
        assert (tensor.name, tensor.dtype) == (name, ir.DataType.from_numpy(value.dtype))
        assert tensor.shape == value.shape
        assert tensor.numpy().dtype == value.dtype
        assert np.array_equal(tensor.numpy(), value)


def test_weights_are_mapped_and_not_copied(path: Path):
    """What is written into the file later is seen."""
    tensor = load(path).graph.initializers["float"].const_value
    assert tensor
    with path.with_name("data").open("r+b") as file:
        file.write(np.float32(42).tobytes())
    assert tensor.numpy()[0, 0] == 42
    assert not tensor.numpy().flags.writeable


def test_weights_within_the_graph_are_left_there(path: Path):
    ir.save(model({"half": ir.tensor(VALUES["half"], name="half")}), path)
    path.with_name("data").unlink()
    tensor = load(path).graph.initializers["half"].const_value
    assert tensor
    assert np.array_equal(tensor.numpy(), VALUES["half"])


@pytest.mark.parametrize("size", [0, 4, -1])
def test_a_file_that_is_too_short(path: Path, size: int):
    data = path.with_name("data")
    data.write_bytes(data.read_bytes()[:size])
    with pytest.raises(ModelError, match=rf"data' has {data.stat().st_size} bytes, and \w+ ends"):
        load(path)


def test_a_file_that_is_missing(path: Path):
    path.with_name("data").unlink()
    with pytest.raises(ModelError, match="data' cannot be read: No such file"):
        load(path)


def test_a_weight_whose_length_is_not_that_of_its_shape(path: Path):
    ir.save(model({"float": external("float", length=4)}), path)
    with pytest.raises(ModelError, match="has 4 bytes instead of 1200"):
        load(path)


@pytest.mark.parametrize("location", ["../data", "/etc/passwd", "..", ""])
def test_weights_in_another_folder(path: Path, location: str):
    ir.save(model({"float": external("float", location=location)}), path)
    with pytest.raises(ModelError, match=r"another folder|cannot be read"):
        load(path)
