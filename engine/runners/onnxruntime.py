"""ONNX Runtime, on the CPU or through its CUDA provider."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from ..device import CPU, Device
from ..errors import BackendError, ExecutionError, ModelError, reason

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"

# From 1.29 on it reports usage to its maker unless told otherwise, and before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
try:
    import onnxruntime as ort
except ImportError as error:
    raise BackendError(
        f"ONNX Runtime cannot be imported: {error}",
        "pip install 'pnp-ovss[cpu]' (or 'pnp-ovss[gpu]' for NVIDIA GPUs)",
    ) from error


class OnnxRuntimeRunner:
    """One session. ONNX Runtime falls back to the CPU without a word; this does not."""

    def __init__(self, path: Path, device: Device = CPU) -> None:
        self._session: ort.InferenceSession | None = _open(path, device.index)
        self.device = device
        self._names = [output.name for output in self._session.get_outputs()]
        self._partial = ort.RunOptions()
        self._partial.only_execute_path_to_fetches = True

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        if self._session is None:
            raise ExecutionError("the model was closed", "load it again")
        names = list(outputs or self._names)
        try:
            values = self._session.run(names, dict(feeds), self._partial if outputs else None)
        except Exception as error:  # the library's exceptions share no base of their own
            raise ExecutionError(
                f"ONNX Runtime failed on {self.device.name}: {reason(error)}",
                "if memory ran out, take a smaller --batch-size; else export the model again",
            ) from error
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    def close(self) -> None:
        """See `Runner.close`."""
        self._session = None


def available_providers() -> list[str]:
    """What this build of ONNX Runtime can run on, best first."""
    return ort.get_available_providers()


def _open(path: Path, cuda_index: int | None) -> ort.InferenceSession:
    """A session on the CPU, or on a CUDA device and nothing else."""
    if cuda_index is not None and _CUDA not in available_providers():
        raise BackendError(
            f"device 'cuda:{cuda_index}' was asked for, but this ONNX Runtime has no CUDA provider",
            "pip uninstall -y onnxruntime && pip install 'pnp-ovss[gpu]'",
        )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # its threads share the processors with those of the CRF, and must not spin while they wait
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [_CPU]
    with redirect_stdout(sys.stderr):  # where the library prints, results are printed
        if cuda_index is not None:
            ort.preload_dlls()  # finds CUDA and cuDNN installed as Python packages
            # TensorFloat-32 would be about 1e-3 off; the default search repeats for every shape
            cuda = {
                "device_id": cuda_index,
                "use_tf32": 0,
                "cudnn_conv_algo_search": "HEURISTIC",
            }
            providers.insert(0, (_CUDA, cuda))
        try:
            session = ort.InferenceSession(
                str(path), options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # as above
            if cuda_index is not None:
                raise _no_cuda(cuda_index, reason(error)) from error
            raise ModelError(
                f"ONNX Runtime cannot load '{path}': {reason(error)}",
                "upgrade it (pip install --upgrade onnxruntime) or export the model again",
            ) from error
    if cuda_index is not None and _CUDA not in session.get_providers():
        raise _no_cuda(cuda_index, "its CUDA provider did not load")
    return session


def _no_cuda(index: int, why: str) -> BackendError:
    return BackendError(
        f"ONNX Runtime cannot start on cuda:{index}: {why}",
        "check the driver with nvidia-smi; CUDA and cuDNN come with: pip install 'pnp-ovss[gpu]'",
    )
