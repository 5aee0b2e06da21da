"""Engines of TensorRT and TensorRT-RTX on a GPU."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import platformdirs

from .. import engines
from ..artifact import Artifact
from ..device import Device
from ..engines import Recipe
from ..errors import BackendError, ExecutionError
from . import PrecisionChoice, tensorrt_api
from .buckets import Bucket, BucketRunner
from .tensorrt_api import TensorRT


def open_engine(
    target: str, model: Artifact, graph: str, device: Device, precision: PrecisionChoice
) -> TensorRTRunner:
    """The engine of a model's graph that was built for this device.

    Raises:
        BackendError: the library is not installed, the device is no GPU, or there is no such
            engine.
    """
    tensorrt_api.require(target)
    if device.stream is None:
        raise BackendError(f"{target} does not run on {device.name}", "take --device cuda")
    path, recipe = engines.find(
        model,
        graph,
        target=target,
        architecture=device.architecture,
        version=lambda: tensorrt_api.load(target).version,
        precision=precision,
    )
    return TensorRTRunner(tensorrt_api.load(target), path, recipe, device)


class TensorRTRunner(BucketRunner):
    """One engine; each of its optimisation profiles is a bucket.

    Weights are held once. Scratch memory is taken for the profiles that are used.

    Raises:
        BackendError: the library refuses the engine.
    """

    def __init__(self, api: TensorRT, path: Path, recipe: Recipe, device: Device) -> None:
        build = f"pnp-ovss build '{path.parent.parent}' --target {api.target}"
        super().__init__(device, recipe.profiles, cure=f"{build} --tokens N")
        self._api = api
        self._runtime = api.trt.Runtime(api.logger)
        api.said()  # of earlier work
        with device.use():
            engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise BackendError(f"{api.target} cannot load '{path}': {api.said()}", build)
        self._engine: Any = engine
        self._precision = recipe.precision
        self._compiled = _compiled_kernels(api, path, device)
        kept = self._compiled.read_bytes() if self._compiled.exists() else b""
        with device.use():
            self._config = api.runtime_config(engine, kept)

    def close(self) -> None:
        """See `Runner.close`."""
        if self._engine is None:
            return
        self.device.stream.synchronize()
        super().close()
        self._keep_kernels()
        self._config = self._engine = self._runtime = None  # in this order

    def _make(self, index: int) -> Bucket:
        trt, xp, stream = self._api.trt, self.device.xp, self.device.stream.ptr
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._config.set_execution_context_allocation_strategy(strategy)
        context = self._engine.create_execution_context(self._config)
        if context is None or not context.set_optimization_profile_async(index, stream):
            raise self._failure()
        arrays: dict[Any, dict[str, Any]] = {
            trt.TensorIOMode.INPUT: {},
            trt.TensorIOMode.OUTPUT: {},
        }
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        for name in sorted(names, key=lambda name: self._is_output(name)):
            if not self._is_output(name):
                context.set_input_shape(name, self._engine.get_tensor_profile_shape(name, index)[1])
            shape = tuple(context.get_tensor_shape(name))
            array = xp.zeros(shape, trt.nptype(self._engine.get_tensor_dtype(name)))
            context.set_tensor_address(name, array.data.ptr)
            arrays[self._engine.get_tensor_mode(name)][name] = array
        if not self._api.capturable(context, stream):
            self._capture = False
        scratch = xp.cuda.alloc(max(1, context.update_device_memory_size_for_shapes()))
        context.set_device_memory(scratch.ptr, scratch.mem.size)

        def step() -> None:
            if not context.execute_async_v3(stream):
                raise self._failure()

        return Bucket(*arrays.values(), step, held=(context, scratch))

    def _is_output(self, name: str) -> bool:
        return self._engine.get_tensor_mode(name) == self._api.trt.TensorIOMode.OUTPUT

    def _keep_kernels(self) -> None:
        """So that the next process need not compile them."""
        kernels = self._api.kernels(self._config)
        if kernels:
            self._compiled.parent.mkdir(parents=True, exist_ok=True)
            new = self._compiled.with_suffix(".new")
            new.write_bytes(kernels)
            new.replace(self._compiled)

    def _failure(self) -> ExecutionError:
        return ExecutionError(
            f"{self._api.target} failed on {self.device.name}: {self._api.said()}",
            "if memory ran out, take a smaller --batch-size; else build the engine again",
        )


def _compiled_kernels(api: TensorRT, engine: Path, device: Device) -> Path:
    """Where the kernels that TensorRT-RTX compiles for an engine are kept."""
    key = hashlib.sha256(f"{engine.resolve()} {device.architecture}".encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("pnp-ovss") / "kernels"
    return folder / f"{api.target}-{api.version}-{device.architecture}-{key}"
