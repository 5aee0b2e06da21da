"""CUDA graphs of what PyTorch queues: recorded once for the shapes of a call, and replayed.

A graph of a transformer is hundreds of small kernels, and for few images a GPU is done with one
before the host has queued the next.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import reason

Tensors = dict[str, Any]
"""Of PyTorch, by name."""

Shapes = dict[str, tuple[int, ...]]

KEPT = 16  # shapes; what runs in ever new ones would record without end
_CAPTURE_MODE = "thread_local"  # this thread is restricted meanwhile: others may allocate

_log = logging.getLogger(__name__)


class _Recording(NamedTuple):
    """A `torch.cuda.CUDAGraph`, the tensors that it reads, and those that it writes."""

    graph: Any
    inputs: Tensors
    outputs: Tensors


@dataclass
class _Case:
    """Of some shapes.

    Attributes:
        warm: the thread that ran them last; None before a run has succeeded.
        refused: whether they cannot be recorded.
        recording: once there is one.
    """

    warm: int | None = None
    refused: bool = False
    recording: _Recording | None = None


class TorchGraphs:
    """A function that is run plainly at first, and replayed from the second call of its shapes.

    Libraries load, allocate and plan in a first run, some of them for each thread: so it is
    recorded on a thread that has run it. What refuses to be recorded is run plainly. All recordings
    share one pool of PyTorch's memory, as they run by turns, on one stream.

    Args:
        torch: the module.
        function: queues work on PyTorch's current stream, from tensors by name to tensors by name.
        kept: recordings that are held at most; of more, the one that was not used for longest goes.
    """

    def __init__(self, torch: Any, function: Callable[..., Tensors], *, kept: int = KEPT) -> None:
        self._torch = torch
        self._function = function
        self._kept = kept
        self._cases: OrderedDict[tuple[Any, ...], _Case] = OrderedDict()

    @property
    def captured(self) -> list[tuple[Shapes, bool]]:
        """The shapes that ran last, and whether a CUDA graph of each is replayed."""
        return [(dict(key), one.recording is not None) for key, one in self._cases.items()]

    def __call__(self, **inputs: Any) -> Tensors:
        """Queue it on PyTorch's current stream; what is returned is the caller's."""
        case = self._case(inputs)
        here = threading.get_ident()
        if case.recording is None and case.warm == here and not case.refused:
            case.recording = self._record(inputs)
            case.refused = case.recording is None
        if case.recording is None:
            outputs = self._function(**inputs)
            case.warm = here
            return outputs
        graph, own, outputs = case.recording
        for name, tensor in own.items():
            tensor.copy_(inputs[name])
        graph.replay()
        return {name: tensor.clone() for name, tensor in outputs.items()}

    def _case(self, inputs: Tensors) -> _Case:
        key = tuple(_shapes(inputs).items())
        case = self._cases.setdefault(key, _Case())
        self._cases.move_to_end(key)
        if len(self._cases) > self._kept:
            # what of it is still queued comes before whatever takes its memory, on the same stream
            self._cases.popitem(last=False)
        return case

    def _record(self, inputs: Tensors) -> _Recording | None:
        """None where it is refused. What is queued meanwhile does not run."""
        own = {name: tensor.clone() for name, tensor in inputs.items()}
        graph, pool = self._torch.cuda.CUDAGraph(), self._pool()
        try:
            graph.capture_begin(pool=pool, capture_error_mode=_CAPTURE_MODE)
            outputs = self._function(**own)
            graph.capture_end()
        except Exception as error:  # whatever it is; a real fault comes up again in the plain run
            _log.warning("no CUDA graph of %s: %s", _shapes(own), reason(error))
            self._abandon(graph, pool)
            return None
        return _Recording(graph, own, outputs)

    def _pool(self) -> Any:
        """That of a graph that is held, as the pool goes with the last of them; else a new one."""
        held = (one.recording.graph for one in self._cases.values() if one.recording)
        graph = next(held, None)
        return self._torch.cuda.graph_pool_handle() if graph is None else graph.pool()

    def _abandon(self, graph: Any, pool: Any) -> None:
        """End a recording that is void.

        PyTorch's own way ends it on the stream alone: its allocator would go on to record, free no
        memory, and refuse the next recording.
        """
        try:
            graph.capture_end()
        except Exception:  # that it is void is known
            place = self._torch.cuda.current_device()
            with suppress(Exception):  # it may never have begun
                self._torch._C._cuda_endAllocateToPool(place, pool)
                self._torch._C._cuda_releasePool(place, pool)


def _shapes(tensors: Tensors) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
