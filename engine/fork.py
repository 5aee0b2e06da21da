"""Let objects that a process cannot share with its parent know that it was forked.

A forked child has the memory of its parent and one of its threads. Whatever waits for the others,
such as the end of a library's thread pool, waits for ever.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import time
import weakref
from collections import Counter
from contextlib import suppress
from pathlib import Path
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
        with suppress(RuntimeError):  # of a child that was forked by who held it
            self._lock.release()

    def after_fork(self) -> None:
        """Take a new lock."""
        self._lock = threading.Lock()


class Gate:
    """Keep a fork waiting while threads are inside of a library that would not survive it.

    The library's own locks may be held then, and its child would wait for them for ever.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._inside: Counter[int] = Counter()  # threads, and how often each has entered
        self._used = False  # since the last fork
        self._forking = False
        self._only: int | None = None  # the thread that may enter; None lets all in

    def __enter__(self) -> None:
        thread = threading.get_ident()
        with self._change:
            self._change.wait_for(
                lambda: (
                    thread in self._inside or (not self._forking and self._only in (None, thread))
                )
            )
            self._inside[thread] += 1
            self._used = True

    def __exit__(self, *_: object) -> None:
        thread = threading.get_ident()
        with self._change:
            self._inside[thread] -= 1
            self._inside += Counter()  # drops who is no longer inside
            self._change.notify_all()

    def close(self) -> None:
        """Wait until no other thread is inside, and let nobody in; `open` ends it."""
        alone = {threading.get_ident()}
        self._change.acquire()
        self._forking = True
        if self._change.wait_for(lambda: self._inside.keys() <= alone, _PATIENCE) and self._used:
            _wait_for_sleep()
            self._used = False

    def end(self) -> None:
        """Wait until no other thread is inside, and let only the main thread in from now on.

        The interpreter ends, and only daemon threads are left. One that comes out of a library in
        C++ after that makes the process abort.
        """
        main = threading.main_thread().ident
        with self._change:
            self._only = main
            self._change.wait_for(lambda: self._inside.keys() <= {main}, _ENDING)

    def open(self) -> None:
        """Let threads in again, in the parent."""
        self._forking = False
        self._change.notify_all()
        self._change.release()

    def renew(self) -> None:
        """Forget the threads that were inside, which a child does not have."""
        self._change = threading.Condition()
        self._inside, self._used, self._forking = Counter(), False, False


LIBRARIES = Gate()
"""Entered by whoever calls a backend."""

_ENDING = 10  # seconds that the end of the interpreter waits at most for threads inside
_PATIENCE = 60  # seconds that a fork waits at most for threads inside
_SPINNING = 0.5  # seconds that it waits at most for threads to sleep that look for more to do


def _wait_for_sleep() -> None:
    """Wait until no other thread runs: those of a library's pool go on for a while after a call."""
    tasks, own = Path("/proc/self/task"), str(threading.get_native_id())
    latest = time.monotonic() + _SPINNING
    while time.monotonic() < latest:
        try:
            states = [_state(task) for task in tasks.iterdir() if task.name != own]
        except OSError:  # a thread has ended, or there is no such folder
            states = ["R"]
        if "R" not in states:
            return
        time.sleep(0.001)


def _state(task: Path) -> str:
    """Read the state of a thread, such as S for one that sleeps."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def never_free(value: object) -> None:
    """Keep an object for as long as the process lives, the end of the interpreter included."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def inherited(module: str) -> bool:
    """Tell whether this is a forked child whose parent had imported a module."""
    return module in _MODULES


_MODULES: set[str] = set()


def _tell() -> None:
    LIBRARIES.renew()
    _MODULES.update(sys.modules)
    for listener in list(_inherited):
        with suppress(Exception):  # the others must be told whatever happens
            listener.after_fork()


atexit.register(LIBRARIES.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=LIBRARIES.close, after_in_parent=LIBRARIES.open, after_in_child=_tell
    )
