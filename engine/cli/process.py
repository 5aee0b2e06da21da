"""Make a process fit for a command: its standard streams, its signals, its environment.

Only a command does this, at its start and on its main thread; the library leaves them alone.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType

from ..errors import InputError
from ..paths import user_cache
from ..precision import NO_TF32

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
    """A signal that asks the process to end; whatever is open is cleaned up on its way.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


@contextmanager
def command_process() -> Generator[None, None, None]:
    """Prepare the process for a command; signals and warnings are as before afterwards.

    SIGTERM and SIGHUP raise `Terminated`. Pillow's and other libraries' warnings are not shown.
    """
    _open_streams()
    _choose_environment()
    with _ended_by_signals(), warnings.catch_warnings():
        if not sys.warnoptions:  # of `python -W`
            warnings.simplefilter("ignore")
        yield


def _open_streams() -> None:
    """Open the standard streams that are closed: a file would get their numbers.

    What is printed there is lost, as whoever closed them wants it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # it takes the lowest number that is free, which is this; children have it as well
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:  # as Python found it closed
            setattr(sys, name, os.fdopen(os.dup(number), "w", encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):  # which may not write every letter of a name
            stream.reconfigure(errors="backslashreplace")


def _choose_environment() -> None:
    """Set what libraries read from the environment alone, unless the user has set it."""
    os.environ.setdefault(NO_TF32, "0")  # of NVIDIA's libraries: TF32 is about 1e-3 off
    with suppress(InputError):  # without a home there is no cache
        os.environ.setdefault("CUPY_CACHE_DIR", str(user_cache() / "cupy"))
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache() / "torchinductor"))


@contextmanager
def _ended_by_signals() -> Generator[None, None, None]:
    """Raise `Terminated` where a signal would end the process at once."""

    def terminate(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # once is enough; cleaning up must not be disturbed
        raise Terminated(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # one that is ignored, as by nohup, stays ignored
    numbers = [one for one in _ENDING if signal.getsignal(one) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
