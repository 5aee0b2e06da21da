"""The CUDA kernels through CuPy, on the device and the stream that are current."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from .kernels import BLOCK, CudaKernels, source

_MOST_BLOCKS = 2**20  # kernels take any number; this many keep every GPU busy


def kernels() -> CudaKernels:
    """The kernels on CuPy arrays."""
    return CudaKernels(importlib.import_module("cupy"), launch)


def compile_kernels(device: int) -> None:
    """Compile them for a device, unless that was done. What it raises differs by what it lacks."""
    with importlib.import_module("cupy").cuda.Device(device):
        _module(device).compile()


def launch(kernel: str, threads: int, *arguments: Any) -> None:
    """Queue a kernel; see `interface.Launch`."""
    blocks = max(1, min(-(-threads // BLOCK), _MOST_BLOCKS))
    device = importlib.import_module("cupy").cuda.Device().id
    _function(device, kernel)((blocks,), (BLOCK,), arguments)


@cache
def _function(device: int, kernel: str) -> Any:
    """Looked up once: kernels are launched between passes, where the host's time counts."""
    return _module(device).get_function(kernel)


@cache
def _module(device: int) -> Any:
    """Compiled once, for the device that is current when it is first asked for something."""
    return importlib.import_module("cupy").RawModule(code=source(), options=("--std=c++17",))
