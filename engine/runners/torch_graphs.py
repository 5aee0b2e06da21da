"""CUDA graphs of what PyTorch queues: recorded once for the shapes of a call, and replayed.

A graph of a transformer is hundreds of small kernels, and for few pictures a GPU is done with one
before the host has queued the next.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import reason

Tensors = dict[str, Any]
"""Of PyTorch, by name."""

Shapes = dict[str, tuple[int, ...]]

KEPT = 16  # shapes; what runs in ever new ones would record without end
_CAPTURE_MODE = "thread_local"  # this thread is restricted meanwhile: others may allocate

_log = logging.getLogger(__name__)


@dataclass
class _Recording:
    """Of a call: its tensors stay where they are.

    Attributes:
        warm: the thread that ran it last; None before a run has succeeded.
        refused: whether it cannot be recorded.
        graph: a `torch.cuda.CUDAGraph`, once there is one.
        inputs: that it reads.
        outputs: that it writes.
    """

    warm: int | None = None
    refused: bool = False
    graph: Any = None
    inputs: Tensors | None = None
    outputs: Tensors | None = None


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
        self._recordings: OrderedDict[tuple[Any, ...], _Recording] = OrderedDict()

    @property
    def captured(self) -> list[tuple[Shapes, bool]]:
        """The shapes that ran last, and whether a CUDA graph of each is replayed."""
        return [(dict(key), one.graph is not None) for key, one in self._recordings.items()]

    def __call__(self, inputs: Tensors) -> Tensors:
        """Queue it on PyTorch's current stream; what is returned is the caller's."""
        recording = self._recording(inputs)
        here = threading.get_ident()
        if recording.graph is None and recording.warm == here and not recording.refused:
            self._record(recording, inputs)
        if recording.graph is None:
            outputs = self._function(**inputs)
            recording.warm = here
            return outputs
        assert recording.inputs is not None
        assert recording.outputs is not None
        for name, tensor in recording.inputs.items():
            tensor.copy_(inputs[name])
        recording.graph.replay()
        return {name: tensor.clone() for name, tensor in recording.outputs.items()}

    def _recording(self, inputs: Tensors) -> _Recording:
        key = tuple(_shapes(inputs).items())
        recording = self._recordings.setdefault(key, _Recording())
        self._recordings.move_to_end(key)
        if len(self._recordings) > self._kept:
            # what of it is still queued comes before whatever takes its memory, on the same stream
            self._recordings.popitem(last=False)
        return recording

    def _record(self, recording: _Recording, inputs: Tensors) -> None:
        """What is queued meanwhile does not run."""
        own = {name: tensor.clone() for name, tensor in inputs.items()}
        graph, pool = self._torch.cuda.CUDAGraph(), self._pool()
        try:
            graph.capture_begin(pool=pool, capture_error_mode=_CAPTURE_MODE)
            outputs = self._function(**own)
            graph.capture_end()
        except Exception as error:  # whatever it is; a real fault comes up again in the plain run
            recording.refused = True
            _log.warning("no CUDA graph of %s: %s", _shapes(own), reason(error))
            self._abandon(graph, pool)
            return
        recording.graph, recording.inputs, recording.outputs = graph, own, outputs

    def _pool(self) -> Any:
        """That of a graph that is held, as the pool goes with the last of them; else a new one."""
        graphs = (one.graph for one in self._recordings.values() if one.graph is not None)
        held = next(graphs, None)
        return self._torch.cuda.graph_pool_handle() if held is None else held.pool()

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
