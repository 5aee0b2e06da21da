"""Backends: each runs one graph, of any model, and knows nothing of segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock

from ..device import CPU, Array, Device, open_device, usable_devices
from ..errors import BackendError, ExecutionError
from ..model.folder import ModelFolder
from ..precision import PrecisionChoice
from .base import Runner

Open = Callable[[ModelFolder, str, Device, PrecisionChoice], Runner]
"""Load a graph of a model folder, by its name there, on a device, in a precision."""


def _open_onnxruntime(
    provider: str, model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .onnxruntime import open_graph

    return open_graph(provider, model, graph, device, precision)


def _open_build(
    target: str, model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .tensorrt import open_build

    return open_build(target, model, graph, device, precision)


def _open_aotinductor(
    model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .aotinductor import open_build

    return open_build(model, graph, device, precision)


def _open_openvino(
    model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .openvino import open_graph

    return open_graph(model, graph, device, precision)


BACKENDS: dict[str, Open] = {
    "onnxruntime": partial(_open_onnxruntime, "cuda"),
    "onnxruntime-tensorrt": partial(_open_onnxruntime, "tensorrt"),
    "onnxruntime-tensorrt-rtx": partial(_open_onnxruntime, "tensorrt-rtx"),
    "tensorrt": partial(_open_build, "tensorrt"),
    "tensorrt-rtx": partial(_open_build, "tensorrt-rtx"),
    "aotinductor": _open_aotinductor,
    "openvino": _open_openvino,
}
AUTO = ("tensorrt", "tensorrt-rtx", "aotinductor", "openvino", "onnxruntime")
"""What "auto" tries, in order: builds that were made for the device, then what needs none, the
faster of them first (benchmarks/NOTES.md)."""


def open_runner(
    model: ModelFolder,
    graph: str,
    *,
    backend: str = "onnxruntime",
    device: Device = CPU,
    precision: PrecisionChoice = "auto",
) -> Runner:
    """Load a graph.

    Args:
        model: the model folder.
        graph: its name in the manifest.
        backend: a key of `BACKENDS`.
        device: where to run it.
        precision: of the arithmetic; "auto" is the most exact that there is.

    Raises:
        BackendError: the backend, or the device or precision for it, cannot be had.
        ModelError: the model folder has no such graph, or the backend refuses it.
    """
    if backend not in BACKENDS:
        raise BackendError(
            f"unknown backend {backend!r}", f"there are: auto, {', '.join(BACKENDS)}"
        )
    if precision == "int8" and backend != "openvino":
        raise BackendError(
            f"backend {backend!r} has no int8",
            "take --backend openvino on a CPU (pip install 'pnp-ovss[openvino]')",
        )
    model.graph(graph)  # refused by name, before a library is loaded
    return BACKENDS[backend](model, graph, device, precision)


def open_runners(
    model: ModelFolder,
    now: Sequence[str],
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
) -> Runners:
    """Load the graphs of a model on one device.

    What is left to "auto" is the first that can be had: of devices a GPU before the CPU, of
    backends in the order of `AUTO`. What was named is that or an error.

    Args:
        model: the model folder.
        now: the graphs to load at once; see `Runners`.
        backend: "auto", or a key of `BACKENDS`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: of the arithmetic.

    Raises:
        ModelError: the model folder has no such graph.
        BackendError: nothing of the kind can be had.
    """
    backends = AUTO if backend == "auto" else [backend]
    devices = usable_devices() if device == "auto" else [open_device(device)]
    failures: list[BackendError] = []
    for place in devices:
        for name in backends:
            load = partial(open_runner, model, backend=name, device=place, precision=precision)
            try:
                return Runners(load, place, now)
            except BackendError as error:
                failures.append(error)
    raise failures[-1]


class Runners:
    """The graphs of a model on one device. Threads may share it.

    Args:
        load: loads a graph by its name.
        device: where it loads them.
        now: the graphs to load at once; any other is loaded when it first runs, as it takes memory
            and few need it.

    Attributes:
        device: as given.
        loaded: the graphs that were loaded, by name.

    Raises:
        BackendError: a graph cannot be loaded.
    """

    def __init__(self, load: Callable[[str], Runner], device: Device, now: Sequence[str]) -> None:
        self.device = device
        self.loaded: dict[str, Runner] = {}
        self._load = load
        self._lock = Lock()
        try:
            for name in now:
                self.loaded[name] = load(name)
        except BaseException:
            self.close()
            raise

    def run(
        self, graph: str, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Run a graph; see `Runner.run`."""
        if graph not in self.loaded:
            with self._lock:  # graphs that are there run meanwhile
                if graph not in self.loaded:
                    self.loaded[graph] = self._load(graph)
        return self.loaded[graph].run(feeds, outputs)

    def close(self) -> None:
        """Free the graphs; what runs afterwards is an error."""
        with self._lock:  # of what is being loaded, too
            self._load = _load_nothing
            for runner in self.loaded.values():
                runner.close()


def _load_nothing(_: str) -> Runner:
    raise ExecutionError("the model was closed", "load it again")
