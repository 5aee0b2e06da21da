"""Compiles and launches the CUDA kernels through CuPy, on the current device and stream."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from .kernels import BLOCK, CudaKernels, source

_MAX_BLOCKS = 2**20  # kernels take any number of blocks; so many keep every GPU busy


def kernels() -> CudaKernels:
    """Return the kernels for CuPy arrays."""
    return CudaKernels(importlib.import_module("cupy"), launch)


def compile_kernels(device: int) -> None:
    """Compile the kernels for a GPU, once in a process.

    Args:
        device: index of the GPU.

    Raises:
        Exception: CuPy is not installed, or its compiler or headers are missing. The type depends
            on what is missing.
    """
    with importlib.import_module("cupy").cuda.Device(device):
        _module(device).compile()


def launch(kernel: str, threads: int, *arguments: Any) -> None:
    """Queue a kernel on the current stream; `interface.Launch` describes the arguments."""
    blocks = max(1, min(-(-threads // BLOCK), _MAX_BLOCKS))
    device = importlib.import_module("cupy").cuda.Device().id
    _function(device, kernel)((blocks,), (BLOCK,), arguments)


@cache
def _function(device: int, kernel: str) -> Any:
    """Look up a kernel once: launches come between passes, where the host's time counts."""
    return _module(device).get_function(kernel)


@cache
def _module(device: int) -> Any:
    """Return the module of kernels; CuPy compiles it for the current device on first use."""
    return importlib.import_module("cupy").RawModule(code=source(), options=("--std=c++17",))
