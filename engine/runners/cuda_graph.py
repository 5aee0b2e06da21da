"""CUDA graphs: the work of a step recorded once, and queued by a single call from then on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..device import Device


class Recorded:
    """A step that is run plainly at first, recorded at its second run, and replayed ever after.

    Libraries allocate and compile in a first run. What refuses to be recorded is run plainly.

    Args:
        step: queues work on the device's stream.
        device: where.
        allowed: whether the library says, after a first run, that it may be recorded.
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
        """Whether it is replayed."""
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
        """A `cupy.cuda.Graph`, or None."""
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
