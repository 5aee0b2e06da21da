"""Where the time goes: functions of a program, timed while it runs."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

Place = tuple[Any, str, str]
"""A module or class, a function of it, and the stage that its time is counted to."""


class Stopwatch:
    """Seconds by stage. What one stage calls of another is the other's.

    Args:
        synchronize: waits for a GPU; is called before the clock is read.
    """

    def __init__(self, synchronize: Callable[[], object] = lambda: None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._synchronize = synchronize
        self._own = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def watching(self, places: Iterable[Place]) -> Iterator[None]:
        """Time these functions meanwhile, on whatever thread they are called."""
        with ExitStack() as patches:
            for owner, name, stage in places:
                timed = self._timed(getattr(owner, name), stage)
                patches.enter_context(patch.object(owner, name, timed))
            yield

    def _timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return function(*args, **kwargs)

        return timed

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile to a stage."""
        outer = self._change(name)
        try:
            yield
        finally:
            self._change(outer)

    def _change(self, stage: str | None) -> str | None:
        """Change the thread's stage; the time since its last change counts to the stage before."""
        self._synchronize()
        now = time.perf_counter()
        before, since = getattr(self._own, "now", (None, now))
        if before is not None:
            with self._lock:
                self.seconds[before] += now - since
        self._own.now = stage, now
        return before
