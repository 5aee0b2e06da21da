from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format as protobuf
from tritonclient.grpc import model_config_pb2

from pnp_ovss.engine.model.signature import Signature, Tensor
from pnp_ovss.export.triton.config import Enumerator, onnx_config, plan_config, text_format

messages: Any = model_config_pb2  # its classes are made when it is imported

GRAPH = Signature(
    inputs={
        "pixels": Tensor("uint8", ("batch", 96, 64, 3)),
        "input_ids": Tensor("int64", ("batch", "tokens")),
        "class_tokens": Tensor("float32", ("batch", "classes", "tokens")),
    },
    outputs={
        "class_maps": Tensor("float32", ("batch", "classes", 6, 4)),
        "labels": Tensor("uint16", ("batch", 480, 640)),
    },
)


def parsed(text: str) -> Any:
    return protobuf.Parse(text, messages.ModelConfig())


def tensors(described: Any) -> dict[str, tuple[str, list[int]]]:
    return {one.name: (messages.DataType.Name(one.data_type), list(one.dims)) for one in described}


def test_a_graph_for_onnxruntime():
    config = parsed(onnx_config("pnp_ovss", "model.onnx", GRAPH, (1, 4, 16)))
    assert (config.name, config.backend, config.platform) == ("pnp_ovss", "onnxruntime", "")
    assert config.default_model_filename == "model.onnx"
    (instances,) = config.instance_group
    assert (instances.count, instances.kind) == (1, messages.ModelInstanceGroup.KIND_AUTO)
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 16]
    assert config.dynamic_batching.max_queue_delay_microseconds > 0


def test_the_batch_is_no_dimension_of_a_tensor():
    config = parsed(onnx_config("pnp_ovss", "model.onnx", GRAPH, (1, 4, 16)))
    assert config.max_batch_size == 16
    assert tensors(config.input) == {
        "pixels": ("TYPE_UINT8", [96, 64, 3]),
        "input_ids": ("TYPE_INT64", [-1]),
        "class_tokens": ("TYPE_FP32", [-1, -1]),
    }
    assert tensors(config.output) == {
        "class_maps": ("TYPE_FP32", [-1, 6, 4]),
        "labels": ("TYPE_UINT16", [480, 640]),
    }


def test_builds_for_tensorrt():
    files = {"8.6": "sm_86.plan", "12.0": "sm_120.plan"}
    config = parsed(plan_config("pnp_ovss_tensorrt", files, GRAPH, (1, 4), 3))
    assert (config.name, config.platform, config.backend) == (
        "pnp_ovss_tensorrt",
        "tensorrt_plan",
        "",
    )
    assert dict(config.cc_model_filenames) == files
    (instances,) = config.instance_group
    assert instances.kind == messages.ModelInstanceGroup.KIND_GPU
    assert list(instances.profile) == ["0", "1", "2"]
    assert config.max_batch_size == 4


def test_single_images_wait_for_no_others():
    config = parsed(plan_config("pnp_ovss_tensorrt", {"8.6": "x"}, GRAPH, (1,), 1))
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")


@pytest.mark.parametrize(
    "name", ['a "quoted" name', "a\\name", "café 猫", "line\nbreak\tand\0more", "'", "?a"]
)
def test_any_string_can_be_written(name: str):
    """As it is a value, a key and a value of a map, and one of a list."""
    message = {
        "name": name,
        "metric_tags": [{"key": name, "value": name}],
        "instance_group": [{"profile": [name, name], "kind": Enumerator("KIND_CPU")}],
    }
    config = parsed(text_format(message))
    assert config.name == name
    assert dict(config.metric_tags) == {name: name}
    assert list(config.instance_group[0].profile) == [name, name]
