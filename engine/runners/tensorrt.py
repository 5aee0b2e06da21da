"""Run builds of TensorRT and TensorRT-RTX."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..device import Array, Device, address
from ..errors import BackendError, ExecutionError, InputError, PnpOvssError, model_closed, reason
from ..model import builds
from ..model.builds import Recipe
from ..model.folder import ModelFolder
from ..model.signature import Graph, Profile, Signature, Tensor
from ..paths import user_cache
from ..precision import Arithmetic, PrecisionChoice
from . import tensorrt_api
from .buckets import Buckets
from .cuda_graph import Recorded
from .tensorrt_api import TensorRT


def open_build(
    target: str, model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice
) -> TensorRTRunner:
    """Load the build of a graph that was made for a device.

    Raises:
        BackendError: the library is not installed, the model has no such build, or one of them
            cannot be loaded.
    """
    tensorrt_api.require(target)
    path, recipe = builds.find(
        model,
        graph,
        target=target,
        architecture=lambda: device.architecture,
        version=lambda: tensorrt_api.load(target).version,
        precision=precision,
    )
    return TensorRTRunner(tensorrt_api.load(target), path, recipe, device, model)


class TensorRTRunner:
    """A build, run in the shapes that it was made for; a CUDA graph is recorded of each.

    Each shape has an execution context, made when it is first needed. All contexts share the memory
    of the largest, as they run in turns.

    Args:
        api: library that loads the build.
        path: path of the build.
        recipe: what the build was made from and for.
        device: GPU of an architecture that the build was made for.
        model: model folder of the build.

    Attributes:
        recipe: what the build was made from and for.
        precision: Precision of the build.
        build: File name of the build.

    Raises:
        BackendError: the library refuses the build.
    """

    def __init__(
        self, api: TensorRT, path: Path, recipe: Recipe, device: Device, model: ModelFolder
    ) -> None:
        self.device = device
        self._api = api
        self.recipe = recipe
        self.precision: Arithmetic = recipe.precision
        self.build: str | None = path.name
        self._build = builds.build_command(model, api.target, recipe.graph, recipe.precision)
        name = f"{path.stem}-{device.architecture}.kernels"
        self._kernels = user_cache() / "kernels" / name
        with self._on_device():
            self._runtime: Any = api.trt.Runtime(api.logger)
            self._engine: Any = self._load(path)
            self._config: Any = self._configure()
        self._signature = _signature(api, self._engine, model.graph(recipe.graph))
        self._buckets = Buckets(device, self._signature, recipe.profiles, self._bind)

    @property
    def captured(self) -> list[tuple[Profile, bool]]:
        """Shapes that ran so far, and whether each replays a CUDA graph."""
        return self._buckets.captured

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """See `Runner.run`.

        Raises:
            InputError: a caption is longer than any that it was built for.
        """
        if self._engine is None:
            raise model_closed()
        self._check_length(feeds)
        try:
            return self._buckets.run(feeds, list(outputs or self._signature.outputs))
        except PnpOvssError:
            raise
        except Exception as error:  # CuPy's, where memory runs out
            raise self._failed(reason(error)) from error

    def close(self) -> None:
        """See `Runner.close`."""
        if self._engine is None:
            return
        with self._on_device():
            self.device.stream.synchronize()
            self._buckets.close()
            self._keep_kernels()
            self._config = self._engine = self._runtime = None  # in this order

    def _on_device(self) -> Any:
        """Make the GPU current without taking a turn, which the caller may hold."""
        return self.device.xp.cuda.Device(self.device.index)

    def _load(self, path: Path) -> Any:
        """Load the build as an `ICudaEngine`."""
        self._api.said()  # of earlier work
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with data:
            engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise BackendError(
                f"{self._api.target} {self._api.version} cannot load the build '{path}'"
                f" on {self.device.name}: {self._api.said()}",
                f"build it again: {self._build} --overwrite",
            )
        return engine

    def _configure(self) -> Any:
        """Make an `IRuntimeConfig`."""
        kernels = self._kernels.read_bytes() if self._kernels.exists() else b""
        config = self._api.runtime_config(self._engine, kernels)
        strategies = self._api.trt.ExecutionContextAllocationStrategy
        config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
        return config

    def _keep_kernels(self) -> None:
        kernels = self._api.kernels(self._config)
        if not kernels:
            return
        with suppress(OSError):  # they are compiled again
            self._kernels.parent.mkdir(parents=True, exist_ok=True)
            new = self._kernels.with_suffix(".new")
            new.write_bytes(kernels)
            new.replace(self._kernels)

    def _bind(self, index: int, inputs: dict[str, Array], outputs: dict[str, Array]) -> Recorded:
        """Make the step of a bucket."""
        stream = self.device.stream
        self._api.said()  # of earlier work
        context = self._engine.create_execution_context(self._config)
        self._require(context)
        self._require(context.set_optimization_profile_async(index, stream.ptr))
        for name, array in inputs.items():
            self._require(context.set_input_shape(name, array.shape))
        for name, array in (inputs | outputs).items():
            self._require(context.set_tensor_address(name, address(array)))
        size = self._engine.get_device_memory_size_for_profile_v2(index)
        context.set_device_memory(address(self._buckets.blocks.take("activations", size)), size)

        def step() -> None:
            self._require(context.execute_async_v3(stream.ptr))

        return Recorded(step, self.device, lambda: self._api.capturable(context, stream.ptr))

    def _require(self, done: object) -> None:
        if not done:
            raise self._failed(self._api.said())

    def _failed(self, why: str) -> ExecutionError:
        return ExecutionError(
            f"{self._api.target} {self._api.version} failed on {self.device.name}: {why}",
            "if memory ran out, take a smaller --batch-size; else build it again:"
            f" {self._build} --overwrite",
        )

    def _check_length(self, feeds: Mapping[str, Array]) -> None:
        """Refuse rows that are longer than the longest bucket."""
        padded = self._signature.dimension("padded")
        length = self._signature.length(self._signature.sizes(feeds))
        if padded is None or length <= self._buckets.longest:
            return
        rows = self._signature.dimension("rows")
        batches = {profile[rows] for profile in self.recipe.profiles} if rows else {1}
        lengths = {profile[padded] for profile in self.recipe.profiles} | {-(-length // 16) * 16}
        raise InputError(
            f"a row has {length} {padded}, and the {self._api.target} build takes"
            f" {self._buckets.longest} at most",
            f"{self._build} --batch {_listed(batches)}"
            + (f" --tokens {_listed(lengths)}" if padded == "tokens" else ""),
        )


def _listed(numbers: set[int]) -> str:
    return ",".join(map(str, sorted(numbers)))


def _signature(api: TensorRT, engine: Any, graph: Graph) -> Signature:
    """Read the signature of an `ICudaEngine`; dynamic dimensions are named as in the graph."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        is_input = engine.get_tensor_mode(name) == api.trt.TensorIOMode.INPUT
        named = (graph.inputs if is_input else graph.outputs)[name].shape
        sizes = engine.get_tensor_shape(name)
        shape = [own if size == -1 else size for size, own in zip(sizes, named, strict=True)]
        dtype = np.dtype(api.trt.nptype(engine.get_tensor_dtype(name)))
        (inputs if is_input else outputs)[name] = Tensor(dtype.name, tuple(shape))
    return Signature(inputs=inputs, outputs=outputs, roles=graph.roles)
