"""Count the processors of this machine."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
import os

from .errors import InputError, shown
from .limits import processor_quota


def processors() -> int:
    """Count the processors that this process may use, by its affinity and its control groups."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = processor_quota()
    return count if quota is None else max(1, min(count, round(quota)))


def thread_count(threads: int | None) -> int:
    """Return a number of threads: what was asked for, or one for each processor.

    Args:
        threads: number of threads; None for one each processor.

    Raises:
        InputError: it is no whole number from 1.
    """
    if threads is None:
        return processors()
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise InputError(f"threads is {shown(threads)}", "it must be a whole number from 1")
    return threads
