"""Run graphs by ONNX Runtime, on the CPU or through one of its providers for NVIDIA GPUs.

On a GPU nothing is copied to the host and nothing waits. Inputs and outputs are bound to the
device's memory, and everything is queued on the device's stream.

CUDA graphs are recorded by ONNX Runtime itself, as its runs cannot be recorded from outside. It
records once for each thread. Meanwhile no other thread may allocate memory of the GPU.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..device import CPU, Array, Device, address
from ..errors import BackendError, ExecutionError, PnpOvssError, model_closed, reason
from ..model.builds import BATCHES, graph_sha256, profiles
from ..model.folder import ModelFolder
from ..model.links import without_links
from ..model.signature import Profile, Role, Signature
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
_log = logging.getLogger(__name__)


def open_graph(
    provider: str, model: ModelFolder, graph: str, device: Device, threads: int | None = None
) -> OnnxRuntimeRunner:
    """Load a graph of a model, on the CPU or through a provider on a GPU.

    Args:
        provider: a key of `PROVIDERS`, for a GPU.
        model: model folder.
        graph: name of the graph in the manifest.
        device: device of the session.
        threads: number of threads that the graph may use on the CPU; None leaves it to the library.

    Raises:
        ModelError: ONNX Runtime refuses the file, or it is not what the manifest describes.
        BackendError: the provider cannot be had.
    """
    with without_links(model, graph) as path:
        if device.index is None:
            return OnnxRuntimeRunner(path, threads=threads, told=model.graph(graph))
        return OnnxRuntimeRunner(
            path,
            device,
            provider=PROVIDERS[provider],
            profiles=profiles(model.graph(graph), BATCHES),
            roles=model.graph(graph).roles,
            digest=graph_sha256(model, graph),
            told=model.graph(graph),
        )


class OnnxRuntimeRunner:
    """A graph in a session of ONNX Runtime.

    Args:
        path: path of the ONNX file.
        device: device of the session.
        provider: provider that runs the session on a GPU.
        profiles: shapes to pad to; longer captions run as they are. On a GPU, a CUDA graph is
            recorded of each shape, if the provider can.
        roles: roles of the graph's dynamic dimensions, for the profiles.
        digest: digest of the graph, for the provider's cache.
        threads: number of threads that the session may use on the CPU.
        told: inputs and outputs that the graph must have, where they are known.

    Raises:
        ModelError: ONNX Runtime refuses the file, or the graph is another than was told.
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
        threads: int | None = None,
        told: Signature | None = None,
    ) -> None:
        self.device = device
        self._captures = False
        spec = SessionSpec(path, device, profiles, provider.captures and bool(profiles), digest)
        self._session: ort.InferenceSession | None = (
            open_on_cpu(path, threads) if device.index is None else self._open(provider, spec)
        )
        self._signature = signature(self._session, roles)
        if told:
            told.require_graph(self._signature, path)
        self._buckets = Buckets(device, self._signature, profiles, self._bind) if profiles else None

    @property
    def providers(self) -> list[str]:
        """Providers that ONNX Runtime says it uses, best first."""
        return list(self._session.get_providers()) if self._session else []

    @property
    def captured(self) -> list[tuple[Profile, bool]]:
        """Shapes that ran so far, and whether each replays a CUDA graph."""
        return self._buckets.captured if self._buckets else []

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """See `Runner.run`."""
        if self._session is None:
            raise model_closed()
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
            try:
                session = open_on_gpu(provider, spec)
                self._captures = True
                return session
            except BackendError as error:  # a fault of another kind comes up again below
                _log.debug("no CUDA graphs of '%s': %s", spec.path, error.cause)
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
        """Make the step of a bucket."""
        graph = index if self._captures else _NO_GRAPH
        return Bound(self._session, self.device, inputs, outputs, graph)


class Bound:
    """A session bound to arrays; a call runs it.

    Args:
        session: session to run.
        device: device of the session and the arrays.
        inputs: contiguous arrays of the inputs, by name.
        outputs: contiguous arrays of the outputs, by name.
        graph: number of the CUDA graph, which is recorded at the first run.
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
        location = ("cpu", 0) if device.index is None else ("cuda", device.index)
        for bind, arrays in (
            (self._binding.bind_input, inputs),
            (self._binding.bind_output, outputs),
        ):
            for name, array in arrays.items():
                bind(name, *location, array.dtype.type, array.shape, address(array))

    @property
    def captured(self) -> bool:
        """Whether ONNX Runtime replays a CUDA graph."""
        return self._graph != _NO_GRAPH

    def __call__(self) -> None:
        """Queue the session's work."""
        if self.captured:
            try:
                self._replay()
                return
            except Exception as error:  # a fault of another kind comes up again below
                _log.debug("no CUDA graph is recorded: %s", reason(error))
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
