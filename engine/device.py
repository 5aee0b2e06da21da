"""Open the device that a model runs on: its arrays, its stream, its kernels."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..kernels.cpu import kernels as cpu_kernels
from ..kernels.interface import Array, Kernels
from .errors import (
    AbsentError,
    BackendError,
    ExecutionError,
    NotInstalledError,
    cannot_import,
    reason,
)

__all__ = [
    "CPU",
    "Array",
    "Device",
    "address",
    "has_nvidia_driver",
    "is_gpu_expected",
    "open_device",
    "usable_devices",
]

_MOST_SIDE_STREAMS = 2
_INSTALL_CUPY = "pip uninstall -y onnxruntime && pip install 'pnp-ovss[gpu]'"
"""The extra's ONNX Runtime and that of the extra `cpu` overwrite each other's files."""
_NO_GPU = (
    "nvidia-smi must list a GPU, which CUDA_VISIBLE_DEVICES must not hide: install NVIDIA's driver"
    " 580 or newer, or take --device cpu"
)


@dataclass(frozen=True, eq=False)
class Device:
    """The CPU, or an NVIDIA GPU.

    Attributes:
        name: name of the device, "cpu" or "cuda:N".
        index: index of the GPU, N; None for the CPU.
        xp: module of the device's arrays, NumPy or CuPy.
        kernels: kernels that compute on the device's arrays.
        stream: CuPy's stream on which a model's work is queued; None for the CPU.
        architecture: architecture of the GPU, such as "sm_89"; "cpu" for the CPU.
    """

    name: str
    index: int | None
    xp: Any
    kernels: Kernels
    stream: Any
    architecture: str
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _spare_streams: list[Any] = field(default_factory=list[Any], repr=False)
    _side_streams: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(_MOST_SIDE_STREAMS), repr=False
    )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name; the device of that name is opened where it is unpickled."""
        return open_device, (self.name,)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.name != "cpu"

    @contextmanager
    def on_stream(self) -> Generator[None, None, None]:
        """Queue the model's work from this thread; threads take turns.

        Raises:
            ExecutionError: the device ran out of memory.
        """
        if self.stream is None:
            yield
            return
        with self._turn, self.xp.cuda.Device(self.index), self.stream, self._enough_memory():
            yield

    def record(self) -> Any:
        """Record an event of the model's stream after all queued work; None on the CPU."""
        return None if self.stream is None else self.stream.record()

    @contextmanager
    def side_stream(self, event: Any = None) -> Generator[None, None, None]:
        """Work on a side stream after an event of the model's stream; wait for it at the end.

        Arrays that the model's stream made must be held until then. Two threads may do this at
        once, which keeps a GPU busy and bounds its memory; others wait.

        Args:
            event: what `record` returned; None if nothing has to be waited for.

        Raises:
            ExecutionError: the device ran out of memory.
        """
        if self.stream is None:
            yield
            return
        with self._side_streams, self.xp.cuda.Device(self.index), self._enough_memory():
            # Streams are kept, as CuPy keeps freed memory for the stream that it was used on.
            try:
                stream = self._spare_streams.pop()
            except IndexError:
                stream = self.xp.cuda.Stream(non_blocking=True)
            try:
                with stream:
                    if event is not None:
                        stream.wait_event(event)
                    yield
            finally:
                stream.synchronize()
                self._spare_streams.append(stream)

    @contextmanager
    def exclusive(self) -> Generator[None, None, None]:
        """Keep all side streams still until this is done, on the model's stream."""
        with ExitStack() as places:
            for _ in range(_MOST_SIDE_STREAMS):
                places.enter_context(self._side_streams)
            yield

    def to_host(self, array: Array) -> npt.NDArray[Any]:
        """Copy an array into the host's memory, after the work queued on the current stream."""
        if isinstance(array, np.ndarray):
            return cast("npt.NDArray[Any]", array)
        return self.xp.asnumpy(array)

    @contextmanager
    def _enough_memory(self) -> Generator[None, None, None]:
        try:
            yield
        except self.xp.cuda.memory.OutOfMemoryError as error:
            raise ExecutionError(
                f"{self.name} ran out of memory: {reason(error)}",
                "take a smaller --batch-size, --crf densecrf-cpu or none, or smaller images",
            ) from error


CPU = Device("cpu", None, np, cpu_kernels, None, "cpu")


def address(array: Array) -> int:
    """Return the address of an array's memory, for libraries that take pointers."""
    on_gpu = getattr(array, "__cuda_array_interface__", None)
    return (on_gpu or array.__array_interface__)["data"][0]


def _cuda_index(name: str) -> int | None:
    """Read the index off a device's name: N of "cuda:N", 0 of "cuda", None of "cpu".

    Raises:
        BackendError: the name is no device's.
    """
    if name == "cpu":
        return None
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        raise BackendError(f"unknown device {name!r}", "use auto, cpu, cuda or cuda:N")
    return int(match[1] or 0)


def open_device(name: str) -> Device:
    """Open a device by its name, "cpu", "cuda" or "cuda:N".

    Raises:
        BackendError: the name is no device's, the GPU does not exist, or CuPy is not installed or
            cannot compile.
    """
    index = _cuda_index(name)
    if index is None:
        return CPU
    try:
        cupy = importlib.import_module("cupy")
    except (ImportError, OSError) as error:
        needed_for = f"device {name!r} cannot be used: "
        raise cannot_import("CuPy", "cupy", error, _INSTALL_CUPY, needed_for=needed_for) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own, where there is no driver
        raise AbsentError(f"no GPU can be used: {reason(error)}", _NO_GPU) from error
    if index >= count:
        cure = f"name one from cuda:0 to cuda:{count - 1}" if count else _NO_GPU
        raise AbsentError(f"there is no device 'cuda:{index}'; there are {count}", cure)
    from ..kernels.cuda.cupy import compile_kernels, kernels

    try:
        compile_kernels(index)
    except Exception as error:  # CuPy's own, or of a library that it does not find
        raise BackendError(
            f"CuPy cannot compile kernels for 'cuda:{index}': {reason(error)}",
            "install what it compiles with: pip install --upgrade 'cupy-cuda13x[ctk]'",
        ) from error
    with cupy.cuda.Device(index) as device:
        stream = cupy.cuda.Stream(non_blocking=True)
        architecture = f"sm_{device.compute_capability}"
    return Device(f"cuda:{index}", index, cupy, kernels(), stream, architecture)


def usable_devices(refused: Callable[[BackendError], object] = lambda _: None) -> list[Device]:
    """List the first GPU, if it can be used, and the CPU.

    Args:
        refused: function that is called with the error if the GPU cannot be used.
    """
    try:
        return [open_device("cuda:0"), CPU]
    except BackendError as error:
        refused(error)
        return [CPU]


def is_gpu_expected(error: BackendError) -> bool:
    """Tell whether a GPU ought to run here, as NVIDIA's driver or CuPy is installed.

    Whoever sets CUDA_VISIBLE_DEVICES to nothing, or to -1, wants none.

    Args:
        error: that `open_device` raised for the GPU.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return has_nvidia_driver() or not isinstance(error, NotInstalledError)


def has_nvidia_driver() -> bool:
    """Tell whether this machine has NVIDIA's driver, and so most likely an NVIDIA GPU."""
    return shutil.which("nvidia-smi") is not None
