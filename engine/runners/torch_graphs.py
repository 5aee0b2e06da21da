"""CUDA graphs of what PyTorch queues: recorded once for the shapes of a call, and replayed.

A graph of a transformer is hundreds of small kernels, and for few pictures a GPU is done with one
before the host has queued the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

Tensors = dict[str, Any]
"""Of PyTorch, by name."""

Shapes = dict[str, tuple[int, ...]]

KEPT = 16  # shapes; what runs in ever new ones would record without end
_HOW = "thread_local"  # this thread's calls alone are restricted: others may allocate meanwhile


@dataclass
class _Recording:
    """Of a call: its tensors stay where they are.

    Attributes:
        runs: calls so far.
        graph: a `torch.cuda.CUDAGraph`; None before the second call, and where none can be had.
        inputs: that it reads.
        outputs: that it writes.
    """

    runs: int = 0
    graph: Any = None
    inputs: Tensors | None = None
    outputs: Tensors | None = None


class TorchGraphs:
    """A function that is run plainly at first, and replayed from the second call of its shapes.

    Libraries allocate and compile in a first run. What refuses to be recorded is run plainly. All
    recordings share one pool of PyTorch's memory, as they run by turns, on one stream.

    Args:
        torch: the module.
        function: queues work on PyTorch's current stream, from tensors by name to tensors by name.
        kept: recordings that are held at most; of more, the one that was not used for longest goes.
    """

    def __init__(self, torch: Any, function: Callable[..., Tensors], *, kept: int = KEPT) -> None:
        self._torch = torch
        self._function = function
        self._kept = kept
        self._pool: Any = None
        self._recordings: OrderedDict[tuple[Any, ...], _Recording] = OrderedDict()

    @property
    def captured(self) -> list[tuple[Shapes, bool]]:
        """The shapes that ran last, and whether a CUDA graph of each is replayed."""
        return [(dict(key), one.graph is not None) for key, one in self._recordings.items()]

    def __call__(self, inputs: Tensors) -> Tensors:
        """Queue it on PyTorch's current stream; what is returned is the caller's."""
        recording = self._recording(inputs)
        recording.runs += 1
        if recording.runs == 2:
            self._record(recording, inputs)
        if recording.graph is None:
            return self._function(**inputs)
        assert recording.inputs is not None
        assert recording.outputs is not None
        for name, tensor in recording.inputs.items():
            tensor.copy_(inputs[name])
        recording.graph.replay()
        return {name: tensor.clone() for name, tensor in recording.outputs.items()}

    def _recording(self, inputs: Tensors) -> _Recording:
        key = tuple((name, tuple(tensor.shape)) for name, tensor in inputs.items())
        recording = self._recordings.setdefault(key, _Recording())
        self._recordings.move_to_end(key)
        if len(self._recordings) > self._kept:
            # what of it is still queued comes before whatever takes its memory, on the same stream
            self._recordings.popitem(last=False)
        return recording

    def _record(self, recording: _Recording, inputs: Tensors) -> None:
        """What is queued meanwhile does not run."""
        own = {name: tensor.clone() for name, tensor in inputs.items()}
        graph = self._torch.cuda.CUDAGraph()
        if self._pool is None:
            self._pool = self._torch.cuda.graph_pool_handle()
        try:
            graph.capture_begin(pool=self._pool, capture_error_mode=_HOW)
            outputs = self._function(**own)
            graph.capture_end()
        except Exception:  # whatever the refusal is; a real fault comes up again in the plain run
            with suppress(Exception):  # that the recording is void is known
                graph.capture_end()
            return
        recording.graph, recording.inputs, recording.outputs = graph, own, outputs
