from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from benchmarks.harness.stopwatch import Stopwatch

pytestmark = pytest.mark.timing


def spent(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}


def program() -> SimpleNamespace:
    own = SimpleNamespace(inner=lambda: time.sleep(0.05))

    def outer(seconds: float) -> float:
        time.sleep(seconds)
        own.inner()
        return seconds

    own.outer = outer
    return own


def test_what_a_stage_calls_of_another_is_the_others() -> None:
    own, stopwatch = program(), Stopwatch()
    before = own.outer
    with stopwatch.watching([(own, "outer", "a"), (own, "inner", "b")]):
        assert own.outer(0.1) == 0.1
        own.inner()
    assert own.outer is before
    assert spent(stopwatch.seconds) == {
        "a": pytest.approx(0.1, abs=0.02),
        "b": pytest.approx(0.1, abs=0.02),
    }


def test_a_stage_that_fails_has_ended() -> None:
    stopwatch = Stopwatch()
    with stopwatch.stage("a"), pytest.raises(ZeroDivisionError), stopwatch.stage("b"):
        _ = 1 / 0
    time.sleep(0.05)
    assert sum(stopwatch.seconds.values()) < 0.02


def test_threads_are_counted_each_for_itself() -> None:
    own, stopwatch = program(), Stopwatch()
    with stopwatch.watching([(own, "inner", "b")]):
        threads = [threading.Thread(target=own.inner) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert stopwatch.seconds["b"] == pytest.approx(0.2, abs=0.05)


def test_the_clock_is_read_when_the_device_is_done() -> None:
    """Here a device that works on for a while after it was told to."""
    stopwatch = Stopwatch(lambda: time.sleep(0.03))
    with stopwatch.stage("a"):
        pass
    assert stopwatch.seconds["a"] >= 0.03
