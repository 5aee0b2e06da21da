"""Record the work of a step in a CUDA graph, which a single call then queues."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..device import Device


class Recorded:
    """A step that runs plainly at first, is recorded at its second run, and is then replayed.

    Libraries allocate and compile in a first run. A step that cannot be recorded runs plainly.

    Args:
        step: function that queues work on the device's stream.
        device: device of the work.
        allowed: function that tells, after the first run, whether the step may be recorded.
    """

    def __init__(
        self, step: Callable[[], None], device: Device, allowed: Callable[[], bool]
    ) -> None:
        self._step = step
        self._device = device
        self._allowed = allowed
        self._runs = 0
        self._graph: Any = None

    @property
    def captured(self) -> bool:
        """Whether the step is replayed."""
        return self._graph is not None

    def __call__(self) -> None:
        """Queue the step."""
        self._runs += 1
        if self._runs == 2 and self._allowed():
            self._graph = self._record()
        if self._graph is None:
            self._step()
        else:
            self._graph.launch(self._device.stream)

    def _record(self) -> Any:
        """Record the step: a `cupy.cuda.Graph`, or None where the library refuses."""
        stream = self._device.stream
        # this thread's calls alone are recorded and restricted: others may allocate meanwhile
        stream.begin_capture(self._device.xp.cuda.runtime.streamCaptureModeThreadLocal)
        try:
            self._step()
            return stream.end_capture()
        except Exception:  # whatever the library's refusal is; a real fault comes up again
            with suppress(Exception):  # that the capture is void is known
                stream.end_capture()
            return None
