"""The CUDA kernels on the current device, through CuPy."""

from __future__ import annotations

import importlib
from functools import cache
from importlib import resources
from typing import Any

from . import cuda_crf


def densecrf(image: Any, probabilities: Any, **terms: float) -> Any:
    """The dense CRF on the device: CuPy arrays in, a CuPy array out; see `cuda_crf.densecrf`."""
    cupy = importlib.import_module("cupy")
    module = _module(cupy.cuda.Device().id)

    def launch(kernel: str, threads: int, *arguments: Any) -> None:
        blocks = min(-(-threads // cuda_crf.BLOCK), 2**20)
        module.get_function(kernel)((blocks,), (cuda_crf.BLOCK,), arguments)

    return cuda_crf.densecrf(image, probabilities, xp=cupy, launch=launch, **terms)


@cache
def _module(device: int) -> Any:
    """Compiled for a device, once."""
    cupy = importlib.import_module("cupy")
    with cupy.cuda.Device(device):
        source = resources.files(__package__) / "cuda" / "densecrf.cu"
        return cupy.RawModule(code=source.read_text(), options=("--std=c++17",))
