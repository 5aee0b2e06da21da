"""Backends: each runs one ONNX graph, and knows nothing of segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import BackendError


class Runner(Protocol):
    """One loaded graph. Arrays live where the runner's device is."""

    @property
    def device(self) -> str:
        """Where it really runs: "cpu", "cuda:0", ..."""
        ...

    def run(
        self, feeds: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Outputs by name; where `outputs` names some, only what they need is computed."""
        ...

    def close(self) -> None:
        """Free the graph."""
        ...


def _open_onnxruntime(path: Path, device: str) -> Runner:
    from .onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(path, device)


BACKENDS: dict[str, Callable[[Path, str], Runner]] = {"onnxruntime": _open_onnxruntime}


def open_runner(path: Path, *, backend: str = "auto", device: str = "auto") -> Runner:
    """Load a graph.

    Args:
        path: the ONNX file.
        backend: a key of `BACKENDS`, or "auto" for the first.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        BackendError: the backend or the device cannot be had.
    """
    name = next(iter(BACKENDS)) if backend == "auto" else backend
    if name not in BACKENDS:
        raise BackendError(
            f"unknown backend {backend!r}", f"there are: auto, {', '.join(BACKENDS)}"
        )
    return BACKENDS[name](path, device)
