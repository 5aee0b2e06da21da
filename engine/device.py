"""Where a model runs: its arrays, its stream, its kernels' home."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import BackendError, reason

Array = Any  # numpy.ndarray or cupy.ndarray

_CURE = "check the driver with nvidia-smi; CuPy comes with: pip install 'pnp-ovss[gpu]'"


@dataclass(frozen=True)
class Device:
    """A processor.

    Attributes:
        name: "cpu" or "cuda:N".
        index: N; None for the CPU.
        xp: the module of its arrays, NumPy or CuPy.
        stream: of CuPy, the one on which everything is queued; None for the CPU.
        architecture: "sm_89" and the like; "cpu" for the CPU.
    """

    name: str
    index: int | None
    xp: Any
    stream: Any
    architecture: str

    @contextmanager
    def use(self) -> Iterator[None]:
        """Make it, and its stream, this thread's own."""
        if self.index is None:
            yield
            return
        with self.xp.cuda.Device(self.index), self.stream:
            yield

    def to_host(self, array: Array) -> np.ndarray:
        """A copy in the host's memory, once all that was queued before is done."""
        return array if self.index is None else self.xp.asnumpy(array)


CPU = Device("cpu", None, np, None, "cpu")


def address(array: Array) -> int:
    """Where an array's memory is, for libraries that take pointers."""
    on_gpu = getattr(array, "__cuda_array_interface__", None)
    return (on_gpu or array.__array_interface__)["data"][0]


def cuda_index(name: str) -> int | None:
    """N of "cuda:N", 0 of "cuda", None of "cpu".

    Raises:
        BackendError: it is none of them.
    """
    if name == "cpu":
        return None
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        raise BackendError(f"unknown device {name!r}", "use auto, cpu, cuda or cuda:N")
    return int(match[1] or 0)


def open_device(name: str) -> Device:
    """The device of a name, "cpu", "cuda" or "cuda:N".

    Raises:
        BackendError: the name is not one, CuPy is not installed, or there is no such GPU.
    """
    index = cuda_index(name)
    if index is None:
        return CPU
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise BackendError(
            f"device {name!r} was asked for, and CuPy cannot be imported: {reason(error)}",
            "pip install 'pnp-ovss[gpu]'",
        ) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own, where there is no driver
        raise BackendError(f"no GPU can be used: {reason(error)}", _CURE) from error
    if index >= count:
        raise BackendError(f"there is no device 'cuda:{index}'; there are {count}", _CURE)
    with cupy.cuda.Device(index) as device:
        stream = cupy.cuda.Stream(non_blocking=True)
        return Device(f"cuda:{index}", index, cupy, stream, f"sm_{device.compute_capability}")


def usable_devices() -> list[Device]:
    """The first GPU, if there is one that can be used, and the CPU."""
    try:
        return [open_device("cuda:0"), CPU]
    except BackendError:
        return [CPU]
