"""Keep the stack that a thread handles signals on."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Generator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@contextmanager
def kept_signal_stack() -> Generator[None, None, None]:
    """Leave the calling thread's alternate signal stack as it is now.

    OpenVINO 2026.4 sets a stack when its CPU plugin is first used, and may free that stack while it
    is still set. The next signal, Ctrl-C or the end of a child, then ends the process.
    """
    if _LIBC is None:
        yield
        return
    before = _Stack()
    _LIBC.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        _LIBC.sigaltstack(ctypes.byref(before), None)
