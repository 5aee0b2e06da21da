"""Backends: each runs one graph, of any model, and knows nothing of segmentation."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..device import CPU, Array, Device, is_gpu_expected, open_device, usable_devices
from ..errors import BackendError, ModelError, model_closed, shown
from ..fork import LIBRARIES, Lock, never_free, tell_after_fork
from ..model import builds
from ..model.folder import ModelFolder
from ..precision import PRECISIONS, Arithmetic, PrecisionChoice
from .base import Runner
from .placement import PassedOver, Placement

_log = logging.getLogger(__name__)

Threads = int | None
"""Number of threads that a graph may use on the CPU; None leaves it to the backend."""

Open = Callable[[ModelFolder, str, Device, PrecisionChoice, Threads], Runner]
"""Load a graph of a model folder, by its name there, on a device, in a precision."""


def _open_onnxruntime(
    provider: str,
    model: ModelFolder,
    graph: str,
    device: Device,
    _: PrecisionChoice,
    threads: Threads,
) -> Runner:
    from .onnxruntime import open_graph

    return open_graph(provider, model, graph, device, threads)


def _open_build(
    target: str,
    model: ModelFolder,
    graph: str,
    device: Device,
    precision: PrecisionChoice,
    _: Threads,
) -> Runner:
    from .tensorrt import open_build

    return open_build(target, model, graph, device, precision)


def _open_aotinductor(
    model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice, threads: Threads
) -> Runner:
    from .aotinductor import open_build

    return open_build(model, graph, device, precision, threads)


def _open_openvino(
    model: ModelFolder, graph: str, _: Device, precision: PrecisionChoice, threads: Threads
) -> Runner:
    from .openvino import open_graph

    return open_graph(model, graph, precision, threads)


class Backend(NamedTuple):
    """A backend, and what it is for.

    Attributes:
        open: Function that loads a graph.
        kinds: Kinds of devices that it runs on, "cpu" and "cuda".
        precisions: Precisions of the arithmetic that it has, on one device or another.
        built: Whether it runs builds that were made ahead of time, not the exported graphs.
    """

    open: Open
    kinds: tuple[str, ...]
    precisions: tuple[Arithmetic, ...]
    built: bool = False

    def suits(self, device: Device, precision: PrecisionChoice) -> bool:
        """Tell whether the backend is meant for such a device and such a precision."""
        return _kind(device) in self.kinds and precision in ("auto", *self.precisions)


_BUILT: tuple[Arithmetic, ...] = ("fp32", "fp16", "bf16")

BACKENDS: dict[str, Backend] = {
    "onnxruntime": Backend(partial(_open_onnxruntime, "cuda"), ("cuda", "cpu"), ("fp32",)),
    "onnxruntime-tensorrt": Backend(partial(_open_onnxruntime, "tensorrt"), ("cuda",), ("fp32",)),
    "onnxruntime-tensorrt-rtx": Backend(
        partial(_open_onnxruntime, "tensorrt-rtx"), ("cuda",), ("fp32",)
    ),
    "tensorrt": Backend(partial(_open_build, "tensorrt"), ("cuda",), _BUILT, True),
    "tensorrt-rtx": Backend(partial(_open_build, "tensorrt-rtx"), ("cuda",), _BUILT, True),
    "aotinductor": Backend(_open_aotinductor, ("cuda", "cpu"), _BUILT, True),
    "openvino": Backend(_open_openvino, ("cpu",), ("fp32", "bf16", "int8")),
}
AUTO = ("tensorrt", "tensorrt-rtx", "aotinductor", "openvino", "onnxruntime")
"""What "auto" tries, in order, of what suits the device and the precision: builds that were made
for the device, then what needs none, the faster of them first (benchmarks/NOTES.md)."""


def open_runner(
    model: ModelFolder,
    graph: str,
    *,
    backend: str = "onnxruntime",
    device: Device = CPU,
    precision: PrecisionChoice = "auto",
    threads: Threads = None,
) -> Runner:
    """Load a graph, which must still be the one that the model folder was opened with.

    Args:
        model: model folder.
        graph: name of the graph in the manifest.
        backend: a key of `BACKENDS`.
        device: device to run the graph on.
        precision: precision of the arithmetic; "auto" is the most exact that the backend has for
            this model.
        threads: number of threads that the graph may use on the CPU; None leaves it to the backend.

    Raises:
        BackendError: the backend, or the device or precision for it, cannot be had.
        ModelError: the model folder has no such graph, its files were changed since it was opened,
            or the backend refuses it.
    """
    _require(backend, model, precision)
    if _kind(device) not in BACKENDS[backend].kinds:
        runs_on, cure = "NVIDIA GPUs", "take --device cuda, or --backend onnxruntime"
        if _kind(device) == "cuda":
            build = builds.build_command(model, "aotinductor", graph, device=device.name)
            runs_on, cure = "the CPU", f"take --device cpu, or --backend aotinductor: {build}"
        raise BackendError(
            f"backend {backend!r} runs on {runs_on}, and the device is {device.name}", cure
        )
    record = model.graph(graph)  # refused by name, before a library is loaded
    with model.files.unchanged(record.files), LIBRARIES:
        return BACKENDS[backend].open(model, graph, device, precision, threads)


def open_runners(
    model: ModelFolder,
    now: Sequence[str],
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    threads: Threads = None,
) -> Runners:
    """Load the graphs of a model on one device, and log where they run.

    What is left to "auto" is the first that can be had: of devices a GPU before the CPU, of
    backends in the order of `AUTO`. What was named is that or an error. `Runners.placement` has
    what was taken, and what was passed over.

    Args:
        model: model folder.
        now: names of the graphs to load at once; see `Runners`.
        backend: "auto", or a key of `BACKENDS`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: precision of the arithmetic; see `open_runner`.
        threads: number of threads that a graph may use on the CPU; see `open_runner`.

    Raises:
        ModelError: the model folder has no such graph, or every backend that there is refuses it.
        BackendError: nothing of the kind can be had.
    """
    _require_names(backend, device, precision)
    names = AUTO if backend == "auto" else (backend,)
    if backend != "auto":
        _require(backend, model, precision)
    for graph in now:
        model.graph(graph)  # refused by name, before a library is loaded
    passed_over: list[PassedOver] = []
    refused: ModelError | None = None

    def opened(place: Device, name: str) -> Runners:
        how: dict[str, Any] = {"device": place, "precision": precision, "threads": threads}
        load = partial(open_runner, model, backend=name, **how)
        runners = Runners(load, place, now, model=model, backend=name, passed_over=passed_over)
        runners.placement.log(_log)
        return runners

    if "auto" not in (backend, device):
        return opened(open_device(device), backend)
    for place in _devices(device, names, passed_over):
        for name in names:
            if BACKENDS[name].suits(place, precision):
                try:
                    return opened(place, name)
                except (BackendError, ModelError) as error:
                    refused = error if isinstance(error, ModelError) else refused
                    built = builds.has_build(model, name, for_cpu=_kind(place) == "cpu")
                    passed_over.append(PassedOver.of(error, place.name, name, expected=built))
    if refused:
        raise refused
    raise _nothing_runs(backend, device, precision, passed_over)


def _devices(device: str, names: Sequence[str], passed_over: list[PassedOver]) -> list[Device]:
    """List the devices to try, the best first; a GPU only if one of the backends can use it.

    Raises:
        BackendError: the device was named, and cannot be had.
    """
    if device != "auto":
        return [open_device(device)]
    if not any("cuda" in BACKENDS[name].kinds for name in names):
        return [CPU]
    return usable_devices(
        lambda error: passed_over.append(
            PassedOver.of(error, "cuda:0", expected=is_gpu_expected(error))
        )
    )


def _kind(device: Device) -> str:
    return "cpu" if device.index is None else "cuda"


def _require_names(backend: str, device: str, precision: PrecisionChoice) -> None:
    """Check that each is a name, and the precision one that there is.

    Raises:
        BackendError: it is not.
    """
    for what, name in (("backend", backend), ("device", device), ("precision", precision)):
        if not isinstance(name, str):
            raise BackendError(f"{what} is {shown(name)}", 'give a name, such as "auto"')
    if precision not in PRECISIONS:
        raise BackendError(
            f"unknown precision {precision!r}", f"there are: {', '.join(PRECISIONS)}"
        )


def _require(backend: str, model: ModelFolder, precision: PrecisionChoice) -> None:
    """Check that a backend exists, and that it has a precision.

    Raises:
        BackendError: the backend does not exist, or lacks the precision.
    """
    if backend not in BACKENDS:
        raise BackendError(
            f"unknown backend {backend!r}", f"there are: auto, {', '.join(BACKENDS)}"
        )
    precisions = BACKENDS[backend].precisions
    if precision in ("auto", *precisions):
        return
    build = f"pnp-ovss build {model.argument} --target aotinductor --precision {precision}"
    cure = f"take --precision {precisions[0]}, or --backend aotinductor: {build}"
    if precision == "int8":
        cure = "take --backend openvino on a CPU (pip install 'pnp-ovss[openvino]')"
    raise BackendError(
        f"backend {backend!r} has no {precision}; it has {', '.join(precisions)}", cure
    )


def _nothing_runs(
    backend: str, device: str, precision: PrecisionChoice, passed_over: Sequence[PassedOver]
) -> BackendError:
    """Make the error that lists all that was tried, with the cure of the nearest."""
    what = "no backend runs" if backend == "auto" else f"backend {backend!r} does not run"
    where = "here" if device == "auto" else f"on {device}"
    wanted = "" if precision == "auto" else f" in {precision}"
    tried = "; ".join(f"{one.name}: {one.reason}" for one in passed_over)
    cure = "take --device cpu"  # a GPU has no int8, and nothing was tried
    if passed_over:  # what ought to run is the nearest; else what is tried last needs the least
        broken = (one for one in passed_over if one.severity == "warning")
        cure = next(broken, passed_over[-1]).cure
    return BackendError(f"{what} this model {where}{wanted}" + (tried and f": {tried}"), cure)


class Runners:
    """The graphs of a model on one device. Threads may share it.

    Args:
        load: function that loads a graph by its name.
        device: device of the graphs.
        now: names of the graphs to load at once. Any other is loaded when it first runs, as it
            takes memory and few need it.
        model: model folder of the graphs; nothing of them is checked where it is None.
        backend: backend of the graphs, a key of `BACKENDS`; None where it is none of them.
        passed_over: backends and devices that were tried before, in order.

    Attributes:
        device: device of the graphs.
        loaded: runners of the graphs that were loaded, by name.

    Raises:
        BackendError: a graph cannot be loaded.
    """

    def __init__(
        self,
        load: Callable[[str], Runner],
        device: Device,
        now: Sequence[str],
        *,
        model: ModelFolder | None = None,
        backend: str | None = None,
        passed_over: Sequence[PassedOver] = (),
    ) -> None:
        self.device = device
        self.loaded: dict[str, Runner] = {}
        self._backend = backend
        self._passed_over = tuple(passed_over)
        self._load = load
        self._model = model
        self._lock = Lock()
        tell_after_fork(self)
        try:
            for name in now:
                self.loaded[name] = load(name)
        except BaseException:
            self.close()
            raise

    @property
    def placement(self) -> Placement:
        """Where and how the graphs run that were loaded so far."""
        return Placement.of(self.device.name, self._backend, dict(self.loaded), self._passed_over)

    def run(
        self, graph: str, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Run a graph; see `Runner.run`.

        Raises:
            ExecutionError: the graph failed, or gave what its signature does not say.
            ModelError: somebody wrote into the model's files, which some backends read as they run.
        """
        if graph not in self.loaded:
            with self._lock:  # graphs that are there run meanwhile
                if graph not in self.loaded:
                    self.loaded[graph] = self._load(graph)
        self._require_unwritten()
        with LIBRARIES:
            found = self.loaded[graph].run(feeds, outputs)
        self._require_unwritten()
        if self._model is not None:
            self._model.graph(graph).check_outputs(feeds, found)
        return found

    def close(self) -> None:
        """Free the graphs; a run afterwards is an error."""
        with self._lock:  # of what is being loaded, too
            self._load = _load_nothing
            for runner in self.loaded.values():
                runner.close()

    def _require_unwritten(self) -> None:
        if self._model is not None and not self.device.on_gpu:  # a GPU has copies
            self._model.files.require_unwritten()

    def after_fork(self) -> None:
        """Give the graphs up without freeing them: their threads are the parent's."""
        never_free((*self.loaded.values(), self.device))
        self.loaded = {}
        self._load = _load_nothing


def _load_nothing(_: str) -> Runner:
    raise model_closed()
