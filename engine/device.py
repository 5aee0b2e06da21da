"""Where a model runs: its arrays, its stream, its kernels."""

from __future__ import annotations

import importlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..kernels.cpu import kernels as cpu_kernels
from ..kernels.interface import Array, Kernels
from .errors import AbsentError, BackendError, ExecutionError, cannot_import, reason

__all__ = [
    "CPU",
    "Array",
    "Device",
    "address",
    "has_nvidia_driver",
    "open_device",
    "usable_devices",
]

_MOST_SIDE_STREAMS = 2
_CURE = "check the driver with nvidia-smi; CuPy comes with: pip install 'pnp-ovss[gpu]'"


@dataclass(frozen=True, eq=False)
class Device:
    """A processor.

    Attributes:
        name: "cpu" or "cuda:N".
        index: N; None for the CPU.
        xp: the module of its arrays, NumPy or CuPy.
        kernels: that compute on its arrays.
        stream: of CuPy, the one on which a model's work is queued; None for the CPU.
        architecture: "sm_89" and the like; "cpu" for the CPU.
    """

    name: str
    index: int | None
    xp: Any
    kernels: Kernels
    stream: Any
    architecture: str
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _spare_streams: list[Any] = field(default_factory=list, repr=False)
    _side_streams: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(_MOST_SIDE_STREAMS), repr=False
    )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its name: where it is unpickled, the device there is opened."""
        return open_device, (self.name,)

    @property
    def on_gpu(self) -> bool:
        """Whether its kernels are the CUDA ones."""
        return self.name != "cpu"

    @contextmanager
    def on_stream(self) -> Iterator[None]:
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
        """An event of the model's stream after all that has been queued; None on the CPU."""
        return None if self.stream is None else self.stream.record()

    @contextmanager
    def side_stream(self, event: Any = None) -> Iterator[None]:
        """Work on a stream beside the model's, after an event of it; waits for it at the end.

        Arrays that the model's stream made must be held until then. Two threads may do so at once,
        which keeps a GPU busy and bounds its memory; others wait.

        Args:
            event: as `record` gave it; None where there is nothing to wait for.

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
    def exclusive(self) -> Iterator[None]:
        """Keep all side streams still until this is done, on the model's stream."""
        with ExitStack() as places:
            for _ in range(_MOST_SIDE_STREAMS):
                places.enter_context(self._side_streams)
            yield

    def to_host(self, array: Array) -> np.ndarray:
        """A copy in the host's memory, once what the current stream has queued is done."""
        return array if isinstance(array, np.ndarray) else self.xp.asnumpy(array)

    @contextmanager
    def _enough_memory(self) -> Iterator[None]:
        try:
            yield
        except self.xp.cuda.memory.OutOfMemoryError as error:
            raise ExecutionError(
                f"{self.name} ran out of memory: {reason(error)}",
                "take a smaller --batch-size, --crf densecrf-cpu or none, or smaller images",
            ) from error


CPU = Device("cpu", None, np, cpu_kernels, None, "cpu")


def address(array: Array) -> int:
    """Where an array's memory is, for libraries that take pointers."""
    on_gpu = getattr(array, "__cuda_array_interface__", None)
    return (on_gpu or array.__array_interface__)["data"][0]


def _cuda_index(name: str) -> int | None:
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
        BackendError: the name is not one, CuPy is not installed or cannot compile, or there is no
            such GPU.
    """
    index = _cuda_index(name)
    if index is None:
        return CPU
    try:
        cupy = importlib.import_module("cupy")
    except (ImportError, OSError) as error:
        install, needed_for = "pip install 'pnp-ovss[gpu]'", f"device {name!r} cannot be used: "
        raise cannot_import("CuPy", "cupy", error, install, needed_for=needed_for) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy's own, where there is no driver
        raise AbsentError(f"no GPU can be used: {reason(error)}", _CURE) from error
    if index >= count:
        raise AbsentError(f"there is no device 'cuda:{index}'; there are {count}", _CURE)
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
    """The first GPU, if there is one that can be used, and the CPU.

    Args:
        refused: is told why the GPU cannot be used.
    """
    try:
        return [open_device("cuda:0"), CPU]
    except BackendError as error:
        refused(error)
        return [CPU]


def has_nvidia_driver() -> bool:
    """Whether this machine has NVIDIA's driver, and so in all likelihood a GPU of theirs."""
    return shutil.which("nvidia-smi") is not None
