"""Builds the graphs of a model folder with TensorRT or TensorRT-RTX."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx_ir as ir
from filelock import FileLock

from ...engine.device import open_device
from ...engine.errors import BackendError, ExecutionError
from ...engine.limits import memory_left
from ...engine.memory import amount, require_memory
from ...engine.model import builds
from ...engine.model.builds import Build, Recipe
from ...engine.model.folder import ModelFolder
from ...engine.model.signature import Graph, Profile
from ...engine.paths import user_cache
from ...engine.precision import Precision
from ...engine.runners import tensorrt_api
from ...engine.runners.tensorrt_api import TensorRT
from ..graphs import WEIGHTS
from ..graphs.loading import load
from ..graphs.precision import convert
from .store import build_once

_COPIES = 3  # copies of the weights in memory during a build; seen: 3.1 for BLIP-large's shape


def build(
    model: ModelFolder,
    *,
    target: str,
    precision: Precision | None = None,
    batches: Sequence[int],
    tokens: Sequence[int] | None = None,
    architectures: Sequence[str] = (),
    drop_mode: str = "pixels",
    graphs: Sequence[str] = (),
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Build]:
    """Build the graphs of a model, unless the builds exist.

    Args:
        model: model folder; builds are written to its folder `builds/`.
        target: target, "tensorrt" or "tensorrt-rtx".
        precision: precision of the arithmetic, by default fp16; inputs and outputs keep their
            types.
        batches: batch sizes to build for, in images or captions.
        tokens: caption lengths to build for, in tokens with padding; by default those of the
            manifest.
        architectures: GPU architectures to build for, "sm_86" for example; by default that of the
            first GPU. TensorRT builds for the first GPU only.
        drop_mode: drop mode whose graphs are built.
        graphs: names of the graphs to build, instead of the drop mode's graphs.
        overwrite: whether existing builds are made again.
        say: function that is called with a message at each step.

    Returns:
        The build of each graph, in the order of `graphs_to_build`.

    Raises:
        ModelError: the model folder is damaged.
        BackendError: the target is not installed, or does not build for an architecture.
        InputError: the model has no such graph, or a graph is too large for this machine's memory.
        ExecutionError: a graph cannot be built.
        OutputError: a build cannot be written.
    """
    api = tensorrt_api.load(target)
    architectures = _architectures(api, architectures)
    built: list[Build] = []
    for graph in builds.graphs_to_build(model, {"drop_mode": drop_mode}, graphs):
        lengths = _lengths(model.graph(graph), tokens, say)
        recipe = Recipe(
            target=target,
            graph=graph,
            precision=precision or "fp16",
            graph_sha256=builds.graph_sha256(model, graph),
            profiles=builds.profiles(model.graph(graph), batches, lengths),
            architectures=architectures,
            version=api.version,
        )
        make = partial(_build, api, model, recipe, say)
        built.append(build_once(model, recipe, make, overwrite=overwrite))
    return built


def _architectures(api: TensorRT, requested: Sequence[str]) -> list[str]:
    """Return the GPU architectures to build for, sorted.

    Raises:
        BackendError: the target does not build for an architecture; or the machine has no GPU, and
            the target or the default needs one.
    """
    buildable = set(api.named_architectures()) or {_gpu_architecture(api)}
    chosen = set(requested) or {_gpu_architecture(api)}
    if not chosen <= buildable:
        raise BackendError(
            f"{api.target} {api.version} builds here for {', '.join(_ordered(buildable))},"
            f" not for {', '.join(_ordered(chosen - buildable))}",
            "choose from the former with --compute-capability X.Y (sm_86 is 8.6)",
        )
    return _ordered(chosen)


def _gpu_architecture(api: TensorRT) -> str:
    """Return the architecture of the first GPU.

    Raises:
        BackendError: the machine has no usable GPU.
    """
    try:
        return open_device("cuda:0").architecture
    except BackendError as error:
        cure = (
            "name the GPUs to build for, for example --compute-capability 8.6"
            if api.rtx
            else "build on a machine with the GPU, or without a GPU by --target tensorrt-rtx"
        )
        raise BackendError(
            f"{api.target} finds no GPU to build for: {error.cause}", cure
        ) from error


def _ordered(architectures: Iterable[str]) -> list[str]:
    return sorted(architectures, key=lambda name: int(name.removeprefix("sm_")))


def _lengths(
    graph: Graph, tokens: Sequence[int] | None, say: Callable[[str], None]
) -> dict[str, list[int]]:
    """Return the caption lengths to build a graph for; none for a graph without captions."""
    if tokens is None or graph.dimension("padded") != "tokens":
        return {}
    most = graph.limits["tokens"]
    if max(tokens) > most:
        say(f"note: captions of this model have {most} tokens at most; built for no more")
    return {"tokens": [min(count, most) for count in tokens]}


def _build(
    api: TensorRT, model: ModelFolder, recipe: Recipe, say: Callable[[str], None], path: Path
) -> None:
    """Build a graph, at `path`.

    Raises:
        InputError: the graph is too large for this machine's memory.
        ExecutionError: the graph cannot be read or built.
    """
    onnx, weights = model.graph_path(recipe.graph), model.graph(recipe.graph).weight_files
    say(
        f"making the {recipe.precision} {recipe.target} build of {recipe.graph}"
        f" for {', '.join(recipe.architectures)}; shapes: {len(recipe.profiles)}"
    )
    require_memory(
        _COPIES * sum(model.manifest.files[name].size for name in weights),
        f"building {recipe.graph}",
        "build on a machine that has more memory",
    )
    api.said()  # discards messages of earlier work
    with _timings(api, recipe) as cache, _interruptible() as stop:
        builder = api.trt.Builder(api.logger)
        network = builder.create_network()
        parser = api.trt.OnnxParser(network, api.logger)  # owns the weights
        if not parser.parse_from_file(str(_in_precision(onnx, recipe.precision, path.parent))):
            raise ExecutionError(
                f"{api.target} {api.version} cannot read '{onnx}': {api.said()}",
                f"pip install --upgrade 'pnp-ovss[{api.target}]', or export the model again",
            )
        timings = cache.read_bytes() if cache and cache.exists() else b""
        config = api.builder_config(builder, recipe.architectures, timings)
        for profile in recipe.profiles:
            config.add_optimization_profile(_optimization_profile(builder, network, profile))
        monitor = _monitor(api.trt, stop)
        config.progress_monitor = monitor
        if not _serialize(api.trt, builder, network, config, path):
            raise ExecutionError(
                f"{api.target} {api.version} cannot build {recipe.graph}"
                f" ({_memory(api, config)}): {api.said()}",
                "if memory ran out, build for fewer and smaller shapes (--batch 1 --tokens 16);"
                " else try another --precision",
            )
        if cache:
            new = cache.with_suffix(".new")
            new.write_bytes(api.timings(config))
            new.replace(cache)


@contextmanager
def _timings(api: TensorRT, recipe: Recipe) -> Iterator[Path | None]:
    """Lock TensorRT's timing cache, and give its path; TensorRT-RTX has none.

    The lock lets one build run at a time: builds at the same time would falsify the timings.
    """
    if api.rtx:
        yield None
        return
    name = f"tensorrt-{api.version}-{'+'.join(recipe.architectures)}.timings"
    cache = user_cache() / name
    cache.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{cache}.lock"):
        yield cache


def _in_precision(onnx: Path, precision: Precision, folder: Path) -> Path:
    """Return the path of a graph in a precision; a converted graph is written to `folder`."""
    if precision == "fp32":
        return onnx
    path = folder / onnx.name
    ir.save(convert(load(onnx), precision), path, external_data=path.name + WEIGHTS)
    return path


def _optimization_profile(builder: Any, network: Any, profile: Profile) -> Any:
    """Make a profile of one shape: kernels are specialized, and CUDA graphs can be captured."""
    shapes = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        shape = [
            profile[value.get_dimension_name(axis)] if size < 0 else size
            for axis, size in enumerate(value.shape)
        ]
        shapes.set_shape(value.name, shape, shape, shape)
    return shapes


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Set an event on Ctrl-C, and raise KeyboardInterrupt at the end.

    Only the main thread receives Ctrl-C. Raised in a callback of the library, it would be lost.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
        if stop.is_set():
            raise KeyboardInterrupt


def _monitor(trt: ModuleType, stop: threading.Event) -> Any:
    """Make a progress monitor that ends a build once the event is set."""

    class Monitor(trt.IProgressMonitor):
        """Monitor of a build."""

        def phase_start(self, *_: Any) -> None:
            pass

        def phase_finish(self, *_: Any) -> None:
            pass

        def step_complete(self, *_: Any) -> bool:
            return not stop.is_set()

    return Monitor()


def _serialize(trt: ModuleType, builder: Any, network: Any, config: Any, path: Path) -> bool:
    """Build a graph, and write the build in pieces, so that memory does not hold it.

    Returns:
        Whether the library could build the graph.

    Raises:
        OSError: the build cannot be written.
    """
    failures: list[OSError] = []
    with path.open("wb") as file:

        class Writer(trt.IStreamWriter):
            def write(self, data: bytes) -> int:
                try:
                    return file.write(data)
                except OSError as error:  # the library ignores exceptions raised here
                    failures.append(error)
                    return 0

        built = builder.build_serialized_network_to_stream(network, config, Writer())
    if failures:
        raise failures[0]
    return built


def _memory(api: TensorRT, config: Any) -> str:
    """Describe the memory of the device on which the library builds, in GiB."""
    if api.rtx:
        return f"memory that is left: {amount(memory_left() or 0)}"
    device = open_device("cuda:0")
    with device.on_stream():
        free, total = device.xp.cuda.runtime.memGetInfo()
    workspace = config.get_memory_pool_limit(api.trt.MemoryPoolType.WORKSPACE)
    return (
        f"free on {device.name}: {free / 2**30:.1f} of {total / 2**30:.1f} GiB,"
        f" workspace limit: {workspace / 2**30:.1f} GiB"
    )
