"""Record what PyTorch queues in CUDA graphs, one for the shapes of a call, and replay them.

A transformer is hundreds of small kernels. For few images a GPU is done with one kernel before the
host has queued the next.
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
"""PyTorch's tensors, by name."""

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
    """What is known of the shapes of a call.

    Attributes:
        warm: thread that ran the shapes last; None before a run has succeeded.
        refused: whether the shapes cannot be recorded.
        recording: recording of the shapes; None before it is made.
    """

    warm: int | None = None
    refused: bool = False
    recording: _Recording | None = None


class TorchGraphs:
    """A function that runs plainly at first, and is replayed from the second call of its shapes.

    Libraries load, allocate and plan in a first run, some of them for each thread. So shapes are
    recorded on a thread that has run them. Shapes that cannot be recorded run plainly. All
    recordings share one pool of PyTorch's memory, as they run in turns, on one stream.

    Args:
        torch: the module `torch`.
        function: function that queues work on PyTorch's current stream. Its arguments are tensors
            by name, and so is its result.
        kept: largest number of recordings; of more, the least recently used one is dropped.
    """

    def __init__(self, torch: Any, function: Callable[..., Tensors], *, kept: int = KEPT) -> None:
        self._torch = torch
        self._function = function
        self._kept = kept
        self._cases: OrderedDict[tuple[Any, ...], _Case] = OrderedDict()

    @property
    def captured(self) -> list[tuple[Shapes, bool]]:
        """Shapes that ran last, and whether each replays a CUDA graph."""
        return [(dict(key), one.recording is not None) for key, one in self._cases.items()]

    def __call__(self, **inputs: Any) -> Tensors:
        """Queue the function on PyTorch's current stream; the returned tensors are new."""
        case = self._case(inputs)
        here = threading.get_ident()
        if case.recording is None and case.warm == here and not case.refused:
            case.recording = self._record(inputs)
            case.refused = case.recording is None
        if case.recording is None:
            outputs = self._function(**inputs)
            case.warm = here
            return outputs
        graph, recorded, outputs = case.recording
        for name, tensor in recorded.items():
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
        """Record the function; None where it cannot be. What is queued meanwhile does not run."""
        copies = {name: tensor.clone() for name, tensor in inputs.items()}
        graph, pool = self._torch.cuda.CUDAGraph(), self._pool()
        try:
            graph.capture_begin(pool=pool, capture_error_mode=_CAPTURE_MODE)
            outputs = self._function(**copies)
            graph.capture_end()
        except Exception as error:  # whatever it is; a real fault comes up again in the plain run
            _log.warning("no CUDA graph of %s: %s", _shapes(copies), reason(error))
            self._abandon(graph, pool)
            return None
        return _Recording(graph, copies, outputs)

    def _pool(self) -> Any:
        """Return the pool of a recording, which is freed with the last of them; or a new pool."""
        held = (one.recording.graph for one in self._cases.values() if one.recording)
        graph = next(held, None)
        return self._torch.cuda.graph_pool_handle() if graph is None else graph.pool()

    def _abandon(self, graph: Any, pool: Any) -> None:
        """End a recording that failed.

        `capture_end` ends the recording only on the stream. PyTorch's allocator would go on to
        record, free no memory, and refuse the next recording.
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
