from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from pnp_ovss.engine.pipeline.workers import Workers

LATEST = 20  # seconds


def test_functions_run_on_threads_that_end_with_the_pool() -> None:
    pool = Workers(2, "test-worker")
    names = {pool.submit(lambda: threading.current_thread().name).result(LATEST) for _ in range(9)}
    assert names <= {"test-worker_0", "test-worker_1"}
    pool.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("test-worker")]


def test_an_error_is_that_of_the_future() -> None:
    pool = Workers(1, "test-worker")
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(LATEST)
    assert pool.submit(lambda: 1).result(LATEST) == 1
    pool.close()


def test_what_has_not_begun_is_canceled_and_what_comes_later_runs_at_once() -> None:
    pool, running, go = Workers(1, "test-worker"), threading.Event(), threading.Event()

    def work() -> int:
        running.set()
        go.wait(LATEST)
        return 1

    first, second = pool.submit(work), pool.submit(work)
    running.wait(LATEST)
    threading.Timer(0.05, go.set).start()
    pool.close()
    assert first.result(LATEST) == 1
    with pytest.raises(CancelledError):
        second.result(LATEST)
    later = pool.submit(threading.get_ident)
    assert later.done()
    assert later.result() == threading.get_ident()


def test_where_no_thread_can_be_started_functions_run_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool = Workers(3, "test-worker")
    assert pool.submit(threading.get_ident).result() == threading.get_ident()
    pool.close()
