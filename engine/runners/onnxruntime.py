"""ONNX Runtime, on the CPU or through its CUDA provider."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendError, ModelError

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"

try:
    import onnxruntime as ort
except ImportError as error:
    raise BackendError(
        f"ONNX Runtime cannot be imported: {error}",
        "pip install 'pnp-ovss[cpu]' (or 'pnp-ovss[gpu]' for NVIDIA GPUs)",
    ) from error


class OnnxRuntimeRunner:
    """One session. ONNX Runtime falls back to the CPU without a word; this does not."""

    def __init__(self, path: Path, device: str) -> None:
        index = _cuda_index(device)
        providers: list[Any] = [_CPU]
        if index is not None:
            providers.insert(0, (_CUDA, {"device_id": index}))
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # finds CUDA and cuDNN installed as Python packages
        options = ort.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # the library's exceptions share no base of their own
            raise ModelError(
                f"ONNX Runtime cannot load '{path}': {str(error).strip().splitlines()[0]}",
                "upgrade it (pip install --upgrade onnxruntime) or export the model again",
            ) from error
        on_cuda = _CUDA in self._session.get_providers()
        if device.startswith("cuda") and not on_cuda:
            raise BackendError(
                f"ONNX Runtime could not start on {device!r}: it offers only the CPU here",
                "check the driver with nvidia-smi and the libraries with: pnp-ovss doctor",
            )
        self.device = f"cuda:{index}" if on_cuda else "cpu"
        self._names = [output.name for output in self._session.get_outputs()]
        self._partial = ort.RunOptions()
        self._partial.only_execute_path_to_fetches = True

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """See `Runner.run`."""
        names = list(outputs or self._names)
        try:
            values = self._session.run(names, dict(feeds), self._partial if outputs else None)
        except Exception as error:  # the library's exceptions share no base of their own
            raise BackendError(
                f"ONNX Runtime failed on {self.device}: {str(error).strip().splitlines()[0]}",
                "if memory ran out, take a smaller --batch-size; else export the model again",
            ) from error
        return {name: np.asarray(value) for name, value in zip(names, values, strict=True)}

    def close(self) -> None:
        """See `Runner.close`."""
        del self._session


def _cuda_index(device: str) -> int | None:
    """Which CUDA device to ask for; None for the CPU."""
    if device == "cpu":
        return None
    offered = _CUDA in ort.get_available_providers()
    if device == "auto":
        return 0 if offered else None
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if not match:
        raise BackendError(f"unknown device {device!r}", "use auto, cpu, cuda or cuda:N")
    if not offered:
        raise BackendError(
            f"device {device!r} was asked for, but this ONNX Runtime has no CUDA provider",
            "pip uninstall -y onnxruntime && pip install 'pnp-ovss[gpu]'",
        )
    return int(match[1] or 0)
