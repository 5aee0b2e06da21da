"""What a run of ONNX Runtime adds to a process's memory. Linux only."""

from __future__ import annotations

import ctypes
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from pnp_ovss.engine.runners.telemetry import without_onnxruntime_telemetry

with without_onnxruntime_telemetry():
    import onnxruntime as ort

from pnp_ovss.engine.model.signature import Profile, Signature

_MMAP_THRESHOLD = -3  # of mallopt: the size from which freed memory goes back to the system


def resident_growth(
    path: Path, signature: Signature, calls: Sequence[Profile], *, reuse: bool
) -> list[int]:
    """Measure the most bytes that a call of a graph, with its inputs, adds to a fresh process.

    ONNX Runtime has no optimizations and no arena there, so that what it frees goes back at once. A
    first, small call brings the weights into memory.

    Args:
        path: of the ONNX file.
        signature: of the graph.
        calls: sizes of its dynamic dimensions.
        reuse: keep a tensor's memory for later ones of the same size, as is its default.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grow, path, signature, calls, reuse).result()


def _grow(path: Path, signature: Signature, calls: Sequence[Profile], reuse: bool) -> list[int]:
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 16)
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.enable_mem_reuse = reuse
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    session.run(None, _zeros(signature, dict.fromkeys(calls[0], 1)))
    growths = []
    for sizes in calls:
        feeds = _zeros(signature, sizes)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = status("VmRSS")
        session.run(None, feeds)
        inputs = sum(array.nbytes for array in feeds.values())
        growths.append(status("VmHWM") - before + inputs)
    return growths


def _zeros(signature: Signature, sizes: Profile) -> dict[str, np.ndarray]:
    return {name: np.zeros(one.sized(sizes), one.dtype) for name, one in signature.inputs.items()}


def status(name: str) -> int:
    """Read a field of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
