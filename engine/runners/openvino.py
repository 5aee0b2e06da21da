"""Run graphs by OpenVINO, on the CPU.

A graph that differentiates, such as BLIP's matching branch, runs in fp32 whatever the precision:
rounding errors are largest there, and low precision gains least. Other graphs, such as the image
encoder, run in bf16, or with products in int8. The rest of an int8 graph is in bf16, or in fp32 on
a CPU without bf16.

With "int8", a graph that differentiates has products of its inputs in int8: those that give the
keys and values of the image.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..device import CPU, Array
from ..errors import (
    BackendError,
    ExecutionError,
    ModelError,
    cannot_import,
    lacks_resources,
    model_closed,
    reason,
)
from ..model.folder import ModelFolder
from ..model.links import without_links
from ..model.signature import Signature, Tensor
from ..precision import Arithmetic, PrecisionChoice
from ..processors import thread_count
from .onnx_header import require_onnx
from .signal_stack import kept_signal_stack
from .telemetry import without_openvino_telemetry

INSTALL = "pip install 'pnp-ovss[openvino]'"
try:
    with without_openvino_telemetry():
        import openvino as ov

    from .openvino_model import fold_transposes, quantize, table_sizes
except ImportError as _error:
    raise cannot_import("OpenVINO", "openvino", _error, INSTALL) from _error

_READ_BACK = (
    "INFERENCE_PRECISION_HINT",
    "INFERENCE_NUM_THREADS",
    "NUM_STREAMS",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE",
)
_HINTS = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}


def open_graph(
    model: ModelFolder, graph: str, precision: PrecisionChoice, threads: int | None = None
) -> OpenVinoRunner:
    """Compile a graph of a model.

    Args:
        model: model folder.
        graph: name of the graph in the manifest.
        precision: precision of the arithmetic.
        threads: number of threads that the graph may use; None for one each processor.

    Raises:
        ModelError: OpenVINO refuses the file, or it is not what the manifest describes.
        BackendError: the CPU lacks the precision.
    """
    exact = model.graph(graph).gradient
    low = not exact and (precision == "bf16" or (precision == "int8" and _has_bf16()))
    with without_links(model, graph) as path:
        return OpenVinoRunner(
            path,
            arithmetic="bf16" if low else "f32",
            int8=None if precision != "int8" else "inputs" if exact else "all",
            threads=threads,
            told=model.graph(graph),
        )


class OpenVinoRunner:
    """A graph that OpenVINO compiled.

    Args:
        path: path of the ONNX file.
        arithmetic: arithmetic of everything but products in int8.
        int8: products with weights that are computed in int8: those of the graph's inputs, or all.
        threads: number of threads that the graph may use; None for one each processor.
        told: inputs and outputs that the graph must have, where they are known.

    Raises:
        ModelError: OpenVINO refuses the file, or the graph is another than was told.
        BackendError: the CPU has no such arithmetic.

    Attributes:
        precision: Least exact arithmetic of its products.
    """

    device = CPU
    build: str | None = None

    def __init__(
        self,
        path: Path,
        *,
        arithmetic: Literal["f32", "bf16"] = "f32",
        int8: Literal["inputs", "all"] | None = None,
        threads: int | None = None,
        told: Signature | None = None,
    ) -> None:
        self.precision: Arithmetic = "int8" if int8 else "bf16" if arithmetic == "bf16" else "fp32"
        self._of_thread = threading.local()
        with kept_signal_stack():
            compiled, self._tables = _compile(path, arithmetic, int8, thread_count(threads))
        self._compiled: ov.CompiledModel | None = compiled
        with refusing(path):
            self._signature = Signature(
                inputs=_tensors(compiled.inputs), outputs=_tensors(compiled.outputs)
            )
        if told:
            told.require_graph(self._signature, path)

    @property
    def properties(self) -> dict[str, str]:
        """Properties that OpenVINO reports of the compiled graph."""
        if self._compiled is None:
            return {}
        return {name: str(self._compiled.get_property(name)) for name in _READ_BACK}

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """See `Runner.run`."""
        if self._compiled is None:
            raise model_closed()
        inputs = {
            name: np.ascontiguousarray(feeds[name], tensor.dtype)
            for name, tensor in self._signature.inputs.items()
        }
        for name, rows in self._tables.items():
            if inputs[name].size and not 0 <= (largest := int(inputs[name].max())) < rows:
                raise ExecutionError(
                    f"OpenVINO failed: {name} has {largest}, and the graph knows {rows}, from 0",
                    "its tokenizer or its manifest is another model's: export the model again",
                )
        try:
            # Inputs are always shared: one that is not would be written into those shared before.
            with kept_signal_stack():
                results = self._request().infer(inputs, share_inputs=True, share_outputs=True)
            return {name: results[name] for name in outputs or self._signature.outputs}
        except Exception as error:  # as above
            raise ExecutionError(
                f"OpenVINO failed: {reason(error)}",
                "if memory ran out, take a smaller --batch-size; else export the model again",
            ) from error

    def close(self) -> None:
        """See `Runner.close`."""
        with kept_signal_stack():
            self._of_thread = threading.local()
            self._compiled = None

    def __del__(self) -> None:
        if hasattr(self, "_compiled"):
            self.close()

    def _request(self) -> ov.InferRequest:
        """Return the thread's request, as a request runs once at a time."""
        if not hasattr(self._of_thread, "request"):
            assert self._compiled is not None
            self._of_thread.request = self._compiled.create_infer_request()
        return self._of_thread.request


def _has_bf16() -> bool:
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@contextmanager
def refusing(path: Path) -> Generator[None, None, None]:
    """Make what OpenVINO raises of a file the error of the model.

    Raises:
        ModelError: something was raised.
    """
    try:
        yield
    except Exception as error:  # the library's exceptions share no base of their own
        raise lacks_resources(error) or ModelError(
            f"OpenVINO cannot load '{path}': {reason(error)}",
            "upgrade it (pip install --upgrade openvino) or export the model again",
        ) from error


def _tensors(ports: Sequence[Any]) -> dict[str, Tensor]:
    """Read inputs or outputs of a compiled graph; OpenVINO does not tell dynamic ones' names."""
    return {
        port.any_name: Tensor(
            np.dtype(port.element_type.to_dtype()).name,
            tuple("?" if one.is_dynamic else one.get_length() for one in port.partial_shape),
        )
        for port in ports
    }


def _compile(
    path: Path, arithmetic: str, int8: str | None, threads: int
) -> tuple[ov.CompiledModel, dict[str, int]]:
    core = ov.Core()
    if arithmetic == "bf16" and not _has_bf16():
        raise BackendError(
            "this CPU has no bf16 arithmetic (avx512_bf16 or amx_bf16)", "take --precision fp32"
        )
    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": arithmetic,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # they share the processors with those of the CRF
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
    }
    with refusing(path):
        require_onnx(path)
        graph = core.read_model(path)
        tables = table_sizes(graph)
        fold_transposes(graph)
        if int8:
            size = quantize(graph, inputs_only=int8 == "inputs")
            properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = size
        compiled = core.compile_model(graph, "CPU", properties)
    runs_in = compiled.get_property("INFERENCE_PRECISION_HINT")
    if runs_in != _HINTS[arithmetic]:
        raise BackendError(
            f"OpenVINO was asked for {arithmetic} and runs in {runs_in.get_type_name()}",
            "take --precision fp32, or pip install --upgrade openvino",
        )
    return compiled, tables
