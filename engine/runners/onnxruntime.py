"""ONNX Runtime, on the CPU or through one of its providers for NVIDIA GPUs.

On a GPU nothing is copied to the host and nothing waits: inputs and outputs are bound to the
device's memory, and everything is queued on the device's stream. CUDA graphs are those that ONNX
Runtime records itself, since it alone knows which of the host's buffers a run leaves to be read; to
record its runs from outside is not supported. It records once for each thread, and while it does,
no other thread may allocate memory of the GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..device import CPU, Array, Device, address
from ..errors import BackendError, ExecutionError, PnpOvssError, reason
from ..model.builds import BATCHES, graph_sha256, profiles
from ..model.folder import ModelFolder
from ..model.signature import Profile, Role
from ..precision import Arithmetic
from .buckets import Buckets
from .onnxruntime_sessions import (
    CUDA,
    PROVIDERS,
    Provider,
    SessionSpec,
    open_on_cpu,
    open_on_gpu,
    ort,
    signature,
)

_NO_GRAPH = -1


def open_graph(provider: str, model: ModelFolder, graph: str, device: Device) -> OnnxRuntimeRunner:
    """A graph of a model, on the CPU or through a provider on a GPU.

    Raises:
        ModelError: ONNX Runtime refuses the file.
        BackendError: the provider cannot be had.
    """
    if device.index is None:
        return OnnxRuntimeRunner(model.graph_path(graph))
    return OnnxRuntimeRunner(
        model.graph_path(graph),
        device,
        provider=PROVIDERS[provider],
        profiles=profiles(model.graph(graph), BATCHES),
        roles=model.graph(graph).roles,
        digest=graph_sha256(model, graph),
    )


class OnnxRuntimeRunner:
    """One session.

    Args:
        path: of the ONNX file.
        device: where to run it.
        provider: what runs it there, if that is a GPU.
        profiles: shapes to pad to; longer captions run as they are. On a GPU, CUDA graphs are
            recorded of them, if the provider can.
        roles: of the graph's dynamic dimensions, for the profiles.
        digest: tells the graph from others in what the provider keeps of it.

    Raises:
        ModelError: ONNX Runtime refuses the file.
        BackendError: the provider cannot be had.
    """

    precision: Arithmetic = "fp32"
    build: str | None = None

    def __init__(
        self,
        path: Path,
        device: Device = CPU,
        *,
        provider: Provider = CUDA,
        profiles: Sequence[Profile] = (),
        roles: Mapping[str, Role] | None = None,
        digest: str = "",
    ) -> None:
        self.device = device
        self._captures = False
        spec = SessionSpec(path, device, profiles, provider.captures and bool(profiles), digest)
        self._session: ort.InferenceSession | None = (
            open_on_cpu(path) if device.index is None else self._open(provider, spec)
        )
        self._signature = signature(self._session, roles)
        self._buckets = Buckets(device, self._signature, profiles, self._bind) if profiles else None

    @property
    def providers(self) -> list[str]:
        """What ONNX Runtime says that it runs on, best first."""
        return list(self._session.get_providers()) if self._session else []

    @property
    def captured(self) -> list[tuple[Profile, bool]]:
        """The shapes that ran so far, and whether a CUDA graph of each is replayed."""
        return self._buckets.captured if self._buckets else []

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """See `Runner.run`."""
        if self._session is None:
            raise ExecutionError("the model was closed", "load it again")
        names = list(outputs or self._signature.outputs)
        try:
            return self._run(self._session, feeds, names)
        except PnpOvssError:
            raise
        except Exception as error:  # the library's exceptions share no base of their own
            raise ExecutionError(
                f"ONNX Runtime failed on {self.device.name}: {reason(error)}",
                "if memory ran out, take a smaller --batch-size; else export the model again",
            ) from error

    def close(self) -> None:
        """See `Runner.close`."""
        if self.device.index is not None:
            self.device.stream.synchronize()
        self._session = self._buckets = None

    def _open(self, provider: Provider, spec: SessionSpec) -> ort.InferenceSession:
        if spec.capture:
            with suppress(BackendError):  # it cannot record this graph; all else comes up again
                session = open_on_gpu(provider, spec)
                self._captures = True
                return session
        return open_on_gpu(provider, replace(spec, capture=False))

    def _run(
        self, session: ort.InferenceSession, feeds: Mapping[str, Array], names: Sequence[str]
    ) -> dict[str, Array]:
        if self.device.index is None and self._buckets is None:
            return dict(zip(names, session.run(names, dict(feeds)), strict=True))
        sizes = self._signature.sizes(feeds)
        if self._buckets and self._signature.length(sizes) <= self._buckets.longest:
            return self._buckets.run(feeds, names)
        xp = self.device.xp
        inputs = {
            name: xp.ascontiguousarray(feeds[name], tensor.dtype)
            for name, tensor in self._signature.inputs.items()
        }
        found = {
            name: xp.empty(tensor.sized(sizes), tensor.dtype)
            for name, tensor in self._signature.outputs.items()
        }
        Bound(session, self.device, inputs, found)()
        return {name: found[name] for name in names}

    def _bind(self, index: int, inputs: dict[str, Array], outputs: dict[str, Array]) -> Bound:
        """The step of a bucket."""
        graph = index if self._captures else _NO_GRAPH
        return Bound(self._session, self.device, inputs, outputs, graph)


class Bound:
    """A session with its arrays, run by calling it.

    Args:
        session: to run.
        device: where it runs, and the arrays are.
        inputs: by name, contiguous.
        outputs: by name, contiguous.
        graph: a number for the CUDA graph that is recorded when it first runs.
    """

    def __init__(
        self,
        session: Any,
        device: Device,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        graph: int = _NO_GRAPH,
    ) -> None:
        self._session = session
        self._device = device
        self._graph = graph
        self._thread = threading.local()  # a graph is of the thread that recorded it
        self._binding = session.io_binding()
        place = ("cpu", 0) if device.index is None else ("cuda", device.index)
        for bind, arrays in (
            (self._binding.bind_input, inputs),
            (self._binding.bind_output, outputs),
        ):
            for name, array in arrays.items():
                bind(name, *place, array.dtype.type, array.shape, address(array))

    @property
    def captured(self) -> bool:
        """Whether ONNX Runtime replays it."""
        return self._graph != _NO_GRAPH

    def __call__(self) -> None:
        """Queue it."""
        if self.captured:
            try:
                self._replay()
                return
            except Exception:  # it could not be recorded; a real fault comes up again
                self._graph = _NO_GRAPH
        self._run(_NO_GRAPH)

    def _replay(self) -> None:
        if getattr(self._thread, "recorded", False):
            self._run(self._graph)
            return
        with self._device.exclusive():
            self._run(self._graph)
        self._thread.recorded = True

    def _run(self, graph: int) -> None:
        options = ort.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        options.add_run_config_entry("gpu_graph_id", str(graph))
        self._session.run_with_iobinding(self._binding, options)
