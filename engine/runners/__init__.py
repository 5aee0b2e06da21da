"""Backends: each runs one graph, and knows nothing of segmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, Protocol

from ..artifact import SALIENCE, VISION, Artifact
from ..device import CPU, Array, Device, open_device, usable_devices
from ..errors import BackendError

Precision = Literal["fp32", "fp16", "bf16"]
PrecisionChoice = Literal["auto"] | Precision | Literal["int8"]
PRECISIONS: tuple[PrecisionChoice, ...] = ("auto", "fp32", "fp16", "bf16", "int8")


class Runner(Protocol):
    """One loaded graph. Arrays live on the runner's device."""

    @property
    def device(self) -> Device:
        """Where it really runs."""
        ...

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Outputs by name; where `outputs` names some, only what they need need be computed.

        On a GPU, `device.use()` is in force; the work is queued on the device's stream, and nothing
        waits for it. What is returned may be overwritten by the next run.
        """
        ...

    def close(self) -> None:
        """Free the graph."""
        ...


Open = Callable[[Artifact, str, Device, PrecisionChoice], Runner]
"""Of a model, a graph of it (`artifact.VISION` or `SALIENCE`), on a device, in a precision."""


def _open_onnxruntime(
    provider: str, model: Artifact, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .onnxruntime import open_graph

    return open_graph(provider, model, graph, device, precision)


def _open_engine(
    target: str, model: Artifact, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .tensorrt import open_engine

    return open_engine(target, model, graph, device, precision)


def _open_aotinductor(
    model: Artifact, graph: str, device: Device, precision: PrecisionChoice
) -> Runner:
    from .aotinductor import open_engine

    return open_engine(model, graph, device, precision)


def _open_openvino(
    model: Artifact, graph: str, device: Device, precision: PrecisionChoice
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
    model: Artifact,
    graph: str,
    *,
    backend: str = "onnxruntime",
    device: Device = CPU,
    precision: PrecisionChoice = "auto",
) -> Runner:
    """Load a graph.

    Args:
        model: the model folder.
        graph: its name there, `artifact.VISION` or `artifact.SALIENCE`.
        backend: a key of `BACKENDS`.
        device: where to run it.
        precision: of the arithmetic; "auto" is the most exact that there is.

    Raises:
        BackendError: the backend, or the device or precision for it, cannot be had.
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
    return BACKENDS[backend](model, graph, device, precision)


def open_runners(
    model: Artifact,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
) -> tuple[Runner, Runner]:
    """Load both graphs of a model, the image encoder and the matching branch, on one device.

    What is left to "auto" is the first that can be had: of devices a GPU before the CPU, of
    backends in the order of `AUTO`. What was named is that or an error.

    Raises:
        BackendError: nothing of the kind can be had.
    """
    backends = AUTO if backend == "auto" else [backend]
    devices = usable_devices() if device == "auto" else [open_device(device)]
    failures: list[BackendError] = []
    for place in devices:
        for name in backends:
            try:
                return _open_both(model, backend=name, device=place, precision=precision)
            except BackendError as error:
                failures.append(error)
    raise failures[-1]


def _open_both(
    model: Artifact, *, backend: str, device: Device, precision: PrecisionChoice
) -> tuple[Runner, Runner]:
    vision = open_runner(model, VISION, backend=backend, device=device, precision=precision)
    try:
        salience = open_runner(model, SALIENCE, backend=backend, device=device, precision=precision)
    except BackendError:
        vision.close()
        raise
    return vision, salience
