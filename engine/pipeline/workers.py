"""Run functions on a few threads, or at once where no thread can be started."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ..fork import tell_after_fork

Result = TypeVar("Result")

_Job = partial[None]


class Workers:
    """A pool of threads that works wherever a function can be called.

    `concurrent.futures.ThreadPoolExecutor` refuses work once the main thread has ended, and at the
    end of the interpreter. A process may also have reached its limit of threads. Then functions run
    on the thread that submits them.

    Its threads are daemons, so that a stream which nobody finished does not keep a process alive.
    They end before the interpreter does. A forked child has none, so functions run at once.

    Args:
        count: number of threads.
        name: beginning of the threads' names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        for index in range(count):
            thread = threading.Thread(target=self._work, name=f"{name}_{index}", daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError):  # at a limit of the process, or at its end
                break
            self._threads.append(thread)
        _POOLS.add(self)
        tell_after_fork(self)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Run a function on a thread; return a future of its result."""
        future: Future[Result] = Future()
        job = partial(_run, future, function, arguments)
        if self._threads:
            self._jobs.put(job)
        else:
            job()
        return future

    def close(self) -> None:
        """Wait for what is running, and end the threads; what has not begun is canceled.

        What is submitted afterwards runs at once.
        """
        with suppress(Empty):
            while (job := self._jobs.get_nowait()) is not None:
                job.args[0].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        try:
            self._join()
        except BaseException:  # of a signal: files that are being written are cleaned up first
            self._join()
            raise
        self._threads = []

    def after_fork(self) -> None:
        """Forget the parent's threads, and what they have in hand."""
        self._jobs, self._threads = SimpleQueue(), []

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # its arguments and result may be large


def _run(
    future: Future[Result], function: Callable[..., Result], arguments: tuple[Any, ...]
) -> None:
    try:
        future.set_result(function(*arguments))
    except BaseException as error:
        future.set_exception(error)
        del future, function, arguments  # the error's traceback has this frame


_POOLS: weakref.WeakSet[Workers] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End all threads while the interpreter lives: native code aborts where it ends around it."""
    for pool in list(_POOLS):
        pool.close()
