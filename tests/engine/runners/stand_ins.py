"""A GPU and a TensorRT for machines that have neither.

The device's arrays are NumPy's; its stream does what it is told at once, or keeps it while a graph
is captured. The library's engines are ONNX files, run by ONNX Runtime from memory addresses to
memory addresses. Both hold their callers to the rules of what they stand in for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort

from pnp_ovss.engine.device import Device
from pnp_ovss.engine.model.signature import Profile
from pnp_ovss.engine.runners.tensorrt_api import TensorRT
from pnp_ovss.kernels.cpu import kernels
from tests.feeds import kept_tokens

THREAD_LOCAL = "thread local"
VERSION = "1.0"  # of the library
_ALIGNMENT = 16  # of NumPy; CuPy's is 512


class Graph:
    """What was captured."""

    def __init__(self, work: list[Callable[[], None]]) -> None:
        self._work = work

    def launch(self, stream: Stream) -> None:
        for one in self._work:
            stream.queue(one)


class Stream:
    """Of CuPy, as far as it is used."""

    of: ClassVar[dict[int, Stream]] = {}

    def __init__(self) -> None:
        self.ptr = id(self)
        self.of[self.ptr] = self
        self.modes: list[str] = []
        self.void = False  # what was captured
        self._captured: list[Callable[[], None]] | None = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def wait_event(self, _: object) -> None:
        pass

    def begin_capture(self, mode: str) -> None:
        assert self._captured is None
        self.modes.append(mode)
        self._captured, self.void = [], False

    def end_capture(self) -> Graph:
        captured, self._captured = self._captured, None
        if captured is None or self.void:
            raise RuntimeError("nothing was captured")
        return Graph(captured)

    def is_capturing(self) -> bool:
        return self._captured is not None

    def queue(self, work: Callable[[], None]) -> None:
        if self._captured is None:
            work()
        else:
            self._captured.append(work)


def device() -> Device:
    cuda = SimpleNamespace(
        Device=lambda _: nullcontext(),
        Stream=lambda non_blocking: Stream(),
        memory=SimpleNamespace(OutOfMemoryError=MemoryError),
        runtime=SimpleNamespace(streamCaptureModeThreadLocal=THREAD_LOCAL),
    )
    xp = SimpleNamespace(empty=np.empty, ascontiguousarray=np.ascontiguousarray, cuda=cuda)
    return Device("cuda:0", 0, xp, kernels, Stream(), "sm_89")


class Library:
    """The module `tensorrt_rtx`, as far as it is used, for an engine of given shapes."""

    __name__ = "stand-in"

    class TensorIOMode(Enum):
        INPUT = 1
        OUTPUT = 2

    class ExecutionContextAllocationStrategy(Enum):
        STATIC = 0
        USER_MANAGED = 2

    class DynamicShapesKernelSpecializationStrategy(Enum):
        LAZY = 0
        EAGER = 1

    def __init__(self, profiles: Sequence[Profile], *, capturable: bool = True) -> None:
        self.profiles = profiles
        self.capturable = capturable
        self.logger = SimpleNamespace(messages=[])
        self.engines: list[ICudaEngine] = []

    def Runtime(self, _: object) -> Runtime:  # noqa: N802 - as in TensorRT
        return Runtime(self)

    @staticmethod
    def nptype(dtype: str) -> type:
        return {"tensor(float)": np.float32, "tensor(int64)": np.int64}[dtype]

    def complain(self, message: str) -> bool:
        self.logger.messages.append(message)
        return False


def cupy(count: Callable[[], int]) -> SimpleNamespace:
    """A CuPy that counts GPUs."""
    runtime = SimpleNamespace(getDeviceCount=count)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=lambda _: nullcontext()))


def no_driver() -> int:
    """How CuPy counts GPUs where there is no driver."""
    raise RuntimeError("cudaErrorInsufficientDriver: no driver")


def api(library: Library) -> TensorRT:
    return TensorRT("tensorrt-rtx", library, library.logger, VERSION)  # type: ignore[arg-type]


class Runtime:
    def __init__(self, library: Library) -> None:
        self._library = library

    def deserialize_cuda_engine(self, data: Any) -> ICudaEngine | None:
        """The data is the name of an ONNX file."""
        try:
            session = ort.InferenceSession(bytes(data).decode())
        except Exception as error:
            self._library.complain(f"bad engine: {error}")
            return None
        self._library.engines.append(ICudaEngine(self._library, session))
        return self._library.engines[-1]


class ICudaEngine:
    def __init__(self, library: Library, session: ort.InferenceSession) -> None:
        self.library = library
        self.session = session
        self.configs: list[IRuntimeConfig] = []
        self.contexts: list[IExecutionContext] = []
        self._inputs = {one.name: one for one in session.get_inputs()}
        self._all = self._inputs | {one.name: one for one in session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._all)

    def get_tensor_name(self, index: int) -> str:
        return list(self._all)[index]

    def get_tensor_mode(self, name: str) -> Library.TensorIOMode:
        modes = self.library.TensorIOMode
        return modes.INPUT if name in self._inputs else modes.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return self._all[name].type

    def get_tensor_shape(self, name: str) -> list[int]:
        return [-1 if isinstance(one, str) else one for one in self._all[name].shape]

    def get_device_memory_size_for_profile_v2(self, index: int) -> int:
        return 1024 * self.library.profiles[index]["batch"]

    def create_runtime_config(self) -> IRuntimeConfig:
        self.configs.append(IRuntimeConfig())
        return self.configs[-1]

    def create_execution_context(self, config: IRuntimeConfig) -> IExecutionContext:
        assert config.strategy is Library.ExecutionContextAllocationStrategy.USER_MANAGED
        strategies = Library.DynamicShapesKernelSpecializationStrategy
        assert config.dynamic_shapes_kernel_specialization_strategy is strategies.EAGER
        self.contexts.append(IExecutionContext(self, config))
        return self.contexts[-1]

    def _shape(self, name: str, profile: Profile) -> tuple[int, ...]:
        shape = self._all[name].shape
        return tuple(profile[one] if isinstance(one, str) else one for one in shape)


class IRuntimeCache:
    def __init__(self) -> None:
        self.kernels: list[str] = []

    def deserialize(self, blob: bytes) -> bool:
        self.kernels += blob.decode().split()
        return True

    def serialize(self) -> bytes:
        return " ".join(self.kernels).encode()


class IRuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy = (
        Library.DynamicShapesKernelSpecializationStrategy.LAZY
    )

    def __init__(self) -> None:
        self.strategy = Library.ExecutionContextAllocationStrategy.STATIC
        self._cache = IRuntimeCache()

    def set_execution_context_allocation_strategy(
        self, strategy: Library.ExecutionContextAllocationStrategy
    ) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> IRuntimeCache:
        return self._cache


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, config: IRuntimeConfig) -> None:
        self._engine = engine
        self._config = config
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.profile = -1
        self.memory = (0, 0)
        self.runs = 0

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream in Stream.of
        if any(one.profile == index for one in self._engine.contexts):
            return self._engine.library.complain(f"profile {index} is in use")
        self.profile = index
        self._shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        wanted = self._engine._shape(name, self._engine.library.profiles[self.profile])
        if shape != wanted:
            return self._engine.library.complain(f"{name} is {shape}, not {wanted}")
        self._shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory
        self._addresses[name] = memory
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % _ALIGNMENT == 0
        self.memory = memory, size

    def is_stream_capturable(self, stream: int) -> bool:
        assert stream in Stream.of
        assert self.runs, "asked before it ran"
        return self._engine.library.capturable

    def execute_async_v3(self, stream: int) -> bool:
        engine = self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [one.name for one in engine.session.get_inputs()]
        if self._addresses.keys() != set(names) or self._shapes.keys() != set(inputs):
            return engine.library.complain("a tensor has no address, or no shape")
        if self.memory[1] < engine.get_device_memory_size_for_profile_v2(self.profile):
            return engine.library.complain("too little memory")
        if Stream.of[stream].is_capturing() and not engine.library.capturable:
            Stream.of[stream].void = True
            return engine.library.complain("cannot be captured")
        self.runs += 1
        kernel = str(self.profile)
        if kernel not in self._config.get_runtime_cache().kernels:
            assert not Stream.of[stream].is_capturing(), "compiled while capturing"
            self._config.get_runtime_cache().kernels.append(kernel)
        Stream.of[stream].queue(self._work)
        return True

    def _work(self) -> None:
        tensors = {name: self._tensor(name) for name in self._addresses}
        session = self._engine.session
        feeds = {one.name: tensors[one.name].copy() for one in session.get_inputs()}
        address, size = self.memory
        _bytes(address, size)[:] = 0xFF  # what its activations leave behind
        results = session.run(None, feeds)
        for one, value in zip(session.get_outputs(), results, strict=True):
            tensors[one.name][...] = value

    def _tensor(self, name: str) -> np.ndarray:
        shape = self._engine._shape(name, self._engine.library.profiles[self.profile])
        dtype = np.dtype(Library.nptype(self._engine.get_tensor_dtype(name)))
        size = int(np.prod(shape)) * dtype.itemsize
        return _bytes(self._addresses[name], size).view(dtype).reshape(shape)


def _bytes(address: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def engine_file(folder: Path, onnx: Path) -> Path:
    """An engine of the stand-in."""
    path = folder / "stand-in.engine"
    path.write_text(str(onnx))
    return path


def feeds_of(
    random: np.random.Generator,
    shapes: Mapping[str, Sequence[int | str]],
    sizes: Profile,
    vocabulary: int,
) -> dict[str, np.ndarray]:
    """Random inputs: captions of any length, patches that are masked or not kept."""
    feeds: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        size = tuple(sizes[one] if isinstance(one, str) else one for one in shape)
        if name == "input_ids":
            feeds[name] = random.integers(0, vocabulary, size)
        elif name == "attention_mask":
            lengths = random.integers(1, size[1] + 1, size[0])
            feeds[name] = (np.arange(size[1]) < lengths[:, None]).astype(np.int64)
        elif name == "patch_keep":
            feeds[name] = (random.random(size) < 0.7).astype(np.float32)
        elif name == "kept":
            feeds[name] = kept_tokens(random, *size)
        else:
            feeds[name] = random.normal(size=size).astype(np.float32)
    return feeds
