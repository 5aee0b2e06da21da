"""Let objects that a process cannot share with its parent know that it was forked.

A forked child has the memory of its parent and one of its threads. Whatever waits for the others,
such as the end of a library's thread pool, waits for ever.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import Any, Protocol


class Inherited(Protocol):
    """An object that must change in a forked child, before anything uses it."""

    def after_fork(self) -> None:
        """Give up what only the parent may use; called in the child, where no other thread runs."""
        ...


_inherited: weakref.WeakSet[Any] = weakref.WeakSet()


def tell_after_fork(listener: Inherited) -> None:
    """Call `after_fork` of an object in every forked child, as long as the object lives."""
    _inherited.add(listener)


class Lock:
    """A lock that is free in a forked child, whichever thread of the parent held it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        tell_after_fork(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()


def never_free(value: object) -> None:
    """Keep an object for as long as the process lives, the end of the interpreter included."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def _tell() -> None:
    for listener in list(_inherited):
        listener.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell)
