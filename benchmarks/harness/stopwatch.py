"""Where the time goes: a tracer that counts the seconds of each stage."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STAGES = {
    "encode": "preprocess",
    "match": "match of each class",
    "drop": "between passes",
    "labels": "refine",
}
"""Stages of tables and of stored results, by spans of `tracing` that have other names."""


class Stopwatch:
    """Seconds by stage. A stage inside another counts for itself, not for the outer one.

    Args:
        synchronize: waits for a GPU; is called before the clock is read.
    """

    def __init__(self, synchronize: Callable[[], object] = lambda: None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._synchronize = synchronize
        self._thread = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, span: str) -> Iterator[None]:
        """Count what this thread does meanwhile to the stage of a span: a tracer.

        Args:
            span: its name; a stage of that name, unless `STAGES` has another for it.
        """
        outer = self._change(STAGES.get(span, span))
        try:
            yield
        finally:
            self._change(outer)

    def _change(self, stage: str | None) -> str | None:
        """Change the thread's stage; the time since its last change counts to the stage before."""
        self._synchronize()
        now = time.perf_counter()
        before, since = getattr(self._thread, "now", (None, now))
        if before is not None:
            with self._lock:
                self.seconds[before] += now - since
        self._thread.now = stage, now
        return before
