from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.harness.stopwatch import STAGES, Stopwatch
from benchmarks.measures import stages
from pnp_ovss.engine.tracing import SPANS, listening, span

pytestmark = pytest.mark.timing


def slept(seconds: float) -> float:
    """Sleep; return the seconds that it took, on a busy machine more than were asked for."""
    began = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - began


def inner() -> float:
    with span("b"):
        return slept(0.05)


def test_what_a_stage_calls_of_another_is_the_others() -> None:
    stopwatch = Stopwatch()
    with listening(stopwatch.stage):
        with span("a"):
            outer, first = slept(0.1), inner()
        second = inner()
    assert stopwatch.seconds == {
        "a": pytest.approx(outer, abs=0.02),
        "b": pytest.approx(first + second, abs=0.02),
    }


def test_a_stage_that_fails_has_ended() -> None:
    stopwatch = Stopwatch()
    with stopwatch.stage("a"), pytest.raises(ZeroDivisionError), stopwatch.stage("b"):
        _ = 1 / 0
    time.sleep(0.05)
    assert sum(stopwatch.seconds.values()) < 0.02


def test_threads_are_counted_each_for_itself() -> None:
    stopwatch = Stopwatch()
    with listening(stopwatch.stage), ThreadPoolExecutor(4) as pool:
        spent = [pool.submit(inner) for _ in range(4)]
    total = sum(one.result() for one in spent)
    assert stopwatch.seconds["b"] == pytest.approx(total, abs=0.05)


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
