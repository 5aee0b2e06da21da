"""Run functions on a few threads, or at once where no thread can be started."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")

_Job = Callable[[], None]


class Workers:
    """A pool of threads that works wherever a function can be called.

    `concurrent.futures.ThreadPoolExecutor` refuses work once the main thread has ended, and at the
    end of the interpreter. A process may also have reached its limit of threads. Then functions run
    on the thread that submits them.

    Its threads are daemons, so that a stream which nobody finished does not keep a process alive.

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

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Run a function on a thread; return a future of its result."""
        future: Future[Result] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)

        if self._threads:
            self._jobs.put(job)
        else:
            job()
        return future

    def close(self) -> None:
        """Wait for what is running, and end the threads; what has not begun is never run."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        try:
            self._join()
        except BaseException:  # of a signal: files that are being written are cleaned up first
            self._join()
            raise

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # its arguments and result may be large
