"""Write `config.pbtxt`, by which Triton Inference Server knows a model.

It is a message `ModelConfig` in protobuf's text format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.model.signature import Signature, Tensor

QUEUE_DELAY = 5000  # microseconds that a request waits for others; the demo's takes 90,000 on a CPU

Message = Mapping[str, Any]


class Enumerator(str):
    """A value of an enumeration, which is written without quotes."""


def onnx_config(name: str, file: str, graph: Signature, batches: Sequence[int]) -> str:
    """Configure an ONNX graph for the backend onnxruntime, on each GPU or else on the CPU.

    Args:
        name: name of the model, which is that of its folder.
        file: name of the graph's file.
        graph: inputs and outputs of the graph. The first dimension of each is the batch.
        batches: batch sizes that the server prefers, the largest of which is the limit.

    Returns:
        The text of `config.pbtxt`.
    """
    return text_format(
        {
            "name": name,
            "backend": "onnxruntime",
            "default_model_filename": file,
            **_served(graph, batches),
            # Each instance would have all of the weights in memory once more.
            "instance_group": [{"count": 1, "kind": Enumerator("KIND_AUTO")}],
        }
    )


def plan_config(
    name: str, files: Mapping[str, str], graph: Signature, batches: Sequence[int], profiles: int
) -> str:
    """Configure TensorRT's builds of a graph, one for each kind of GPU.

    Args:
        name: name of the model, which is that of its folder.
        files: names of the builds' files, by the compute capability that each is for: "8.6".
        graph: inputs and outputs of the graph. The first dimension of each is the batch.
        batches: batch sizes that the server prefers, the largest of which is the limit.
        profiles: number of optimization profiles of each build.

    Returns:
        The text of `config.pbtxt`.
    """
    # Only the profiles that are named are used, and none but the first by default.
    instances = {
        "count": 1,
        "kind": Enumerator("KIND_GPU"),
        "profile": [str(index) for index in range(profiles)],
    }
    return text_format(
        {
            "name": name,
            "platform": "tensorrt_plan",
            "cc_model_filenames": [
                {"key": capability, "value": file} for capability, file in files.items()
            ],
            **_served(graph, batches),
            "instance_group": [instances],
        }
    )


def _served(graph: Signature, batches: Sequence[int]) -> Message:
    """Describe inputs, outputs and batches, alike for every backend."""
    batching = {
        "preferred_batch_size": [size for size in batches if size > 1],
        "max_queue_delay_microseconds": QUEUE_DELAY,
    }
    return {
        "max_batch_size": max(batches),
        "input": _tensors(graph.inputs),
        "output": _tensors(graph.outputs),
        **({"dynamic_batching": batching} if max(batches) > 1 else {}),
    }


def _tensors(tensors: Mapping[str, Tensor]) -> list[Message]:
    return [
        {
            "name": name,
            # FP32 for float32, INT64 for int64, UINT8 for uint8
            "data_type": Enumerator(f"TYPE_{tensor.dtype.upper().replace('FLOAT', 'FP')}"),
            "dims": [size if isinstance(size, int) else -1 for size in tensor.shape[1:]],
        }
        for name, tensor in tensors.items()
    ]


def text_format(message: Message, indent: str = "") -> str:
    """Write a message in protobuf's text format, a field a line.

    Args:
        message: values of the fields, by name: strings, `Enumerator`s, integers, messages, or lists
            of these for a repeated field.
        indent: what each line begins with.
    """
    return "".join(_field(name, value, indent) for name, value in message.items())


def _field(name: str, value: Any, indent: str) -> str:
    if isinstance(value, Mapping):
        return f"{indent}{name} {{\n{text_format(value, indent + '  ')}{indent}}}\n"
    if isinstance(value, list):
        if value and isinstance(value[0], Mapping):
            return "".join(_field(name, one, indent) for one in value)
        return f"{indent}{name}: [{', '.join(map(_scalar, value))}]\n"
    return f"{indent}{name}: {_scalar(value)}\n"


def _scalar(value: str | int) -> str:
    if isinstance(value, Enumerator | int):
        return str(value)
    return f'"{"".join(map(_escaped, value.encode()))}"'


def _escaped(byte: int) -> str:
    """Write a byte of a string: as it is, or in octal."""
    character = chr(byte)
    if character in '"\\':
        return f"\\{character}"
    return character if " " <= character <= "~" else f"\\{byte:03o}"
