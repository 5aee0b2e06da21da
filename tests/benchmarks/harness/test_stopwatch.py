from __future__ import annotations

import threading
import time

import pytest

from benchmarks.harness.stopwatch import STAGES, Stopwatch
from benchmarks.measures import stages
from pnp_ovss.engine.tracing import SPANS, listening, span


def spent(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in seconds.items()}


def inner() -> None:
    with span("b"):
        time.sleep(0.05)


def outer(seconds: float) -> float:
    with span("a"):
        time.sleep(seconds)
        inner()
        return seconds


def test_what_a_stage_calls_of_another_is_the_others() -> None:
    stopwatch = Stopwatch()
    with listening(stopwatch.stage):
        assert outer(0.1) == 0.1
        inner()
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
    stopwatch = Stopwatch()
    with listening(stopwatch.stage):
        threads = [threading.Thread(target=inner) for _ in range(4)]
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


def test_tables_have_a_stage_for_every_span_of_the_engine() -> None:
    stopwatch = Stopwatch()
    for name in SPANS:
        with stopwatch.stage(name):
            pass
    assert stopwatch.seconds.keys() == set(stages.STAGES) - {"other"}
    assert STAGES.keys() <= SPANS.keys()
