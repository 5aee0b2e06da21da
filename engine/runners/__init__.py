"""Backends: each runs one graph, and knows nothing of segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock

from ..device import CPU, Array, Device, open_device, usable_devices
from ..errors import BackendError
from ..model.folder import SALIENCE, VISION, VISION_TOKENS, ModelFolder, require_graph
from ..precision import PrecisionChoice
from .base import Runner

Open = Callable[[ModelFolder, str, Device, PrecisionChoice], Runner]
"""Of a model, a graph of it (`artifact.VISION` and the like), on a device, in a precision."""


def _open_onnxruntime(
    provider: str, model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .onnxruntime import open_graph

    return open_graph(provider, model, graph, device, precision)


def _open_engine(
    target: str, model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .tensorrt import open_engine

    return open_engine(target, model, graph, device, precision)


def _open_aotinductor(
    model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .aotinductor import open_engine

    return open_engine(model, graph, device, precision)


def _open_openvino(
    model: ModelFolder, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .openvino import open_graph

    return open_graph(model, graph, device, precision)


BACKENDS: dict[str, Open] = {
    "onnxruntime": partial(_open_onnxruntime, "cuda"),
    "onnxruntime-tensorrt": partial(_open_onnxruntime, "tensorrt"),
    "onnxruntime-tensorrt-rtx": partial(_open_onnxruntime, "tensorrt-rtx"),
    "tensorrt": partial(_open_engine, "tensorrt"),
    "tensorrt-rtx": partial(_open_engine, "tensorrt-rtx"),
    "aotinductor": _open_aotinductor,
    "openvino": _open_openvino,
}
AUTO = ("tensorrt", "tensorrt-rtx", "aotinductor", "openvino", "onnxruntime")
"""What "auto" tries, in order: engines that were built for the device, then what needs none, the
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
        graph: its name there, `artifact.VISION` and the like.
        backend: a key of `BACKENDS`.
        device: where to run it.
        precision: of the arithmetic; "auto" is the most exact that there is.

    Raises:
        BackendError: the backend, or the device or precision for it, cannot be had.
        ModelError: the model folder is of an earlier version, which had no such graph.
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
    require_graph(model, graph)
    return BACKENDS[backend](model, graph, device, precision)


def open_runners(
    model: ModelFolder,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
) -> tuple[Runner, Runner, Runner]:
    """Load the graphs of a model on one device: image encoder, encoder of tokens, matching branch.

    What is left to "auto" is the first that can be had: of devices a GPU before the CPU, of
    backends in the order of `AUTO`. What was named is that or an error. The encoder of tokens is
    loaded likewise when it first runs.

    Raises:
        BackendError: nothing of the kind can be had.
    """
    backends = AUTO if backend == "auto" else [backend]
    devices = usable_devices() if device == "auto" else [open_device(device)]
    failures: list[BackendError] = []
    for place in devices:
        for name in backends:
            try:
                return _open_all(model, backend=name, device=place, precision=precision)
            except BackendError as error:
                failures.append(error)
    raise failures[-1]


def _open_all(
    model: ModelFolder, *, backend: str, device: Device, precision: PrecisionChoice
) -> tuple[Runner, Runner, Runner]:
    load = partial(open_runner, model, backend=backend, device=device, precision=precision)
    vision = load(VISION)
    try:
        salience = load(SALIENCE)
    except BackendError:
        vision.close()
        raise
    return vision, LazyRunner(partial(load, VISION_TOKENS), vision.device), salience


class LazyRunner:
    """A graph that is loaded when it first runs: it takes memory, and few need it.

    Args:
        load: loads it.
        device: where it will run.
    """

    def __init__(self, load: Callable[[], Runner], device: Device) -> None:
        self.device = device
        self._load = load
        self._loaded: Runner | None = None
        self._lock = Lock()

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """See `Runner.run`."""
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
        return self._loaded.run(feeds, outputs)

    def close(self) -> None:
        """See `Runner.close`."""
        if self._loaded is not None:
            self._loaded.close()
