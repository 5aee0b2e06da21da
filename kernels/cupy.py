"""The CUDA kernels through CuPy, on the device and the stream that are current."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from .cuda_kernels import BLOCK, CudaKernels, source

_MOST_BLOCKS = 2**20  # kernels take any number; this many keep every GPU busy


def kernels() -> CudaKernels:
    """The kernels on CuPy arrays."""
    return CudaKernels(importlib.import_module("cupy"), launch)


def launch(kernel: str, threads: int, *arguments: Any) -> None:
    """Queue a kernel; see `interface.Launch`."""
    cupy = importlib.import_module("cupy")
    blocks = max(1, min(-(-threads // BLOCK), _MOST_BLOCKS))
    function = _module(cupy.cuda.Device().id).get_function(kernel)
    function((blocks,), (BLOCK,), arguments)


@cache
def _module(device: int) -> Any:
    """Compiled for a device, once."""
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(device):
        return cupy.RawModule(code=source(), options=("--std=c++17",))
