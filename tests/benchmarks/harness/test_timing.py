from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.harness.timing import bootstrap_interval, in_turns, interleaved

rounds = arrays(float, st.integers(1, 12), elements=st.floats(0.01, 100))


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def run(name: str) -> float:
        order.append(name)
        return float(len(order))

    seconds = in_turns({name: lambda name=name: run(name) for name in "abc"}, 2)
    assert "".join(order) == "abc" * 3  # the first of them to warm up
    assert {name: own.tolist() for name, own in seconds.items()} == {
        "a": [4, 7],
        "b": [5, 8],
        "c": [6, 9],
    }


def test_a_clock_of_its_own() -> None:
    (own,) = interleaved({"a": lambda: sum(range(10**5))}, 3).values()
    assert len(own) > 3  # these are milliseconds
    assert (own > 0).all()


@pytest.mark.parametrize(("taken", "wanted"), [(2.0, 3), (0.125, 4), (0.001, 30)])
def test_rounds_go_on_until_there_is_enough_to_see(taken: float, wanted: int) -> None:
    """Two contenders of an eighth of a second have had one together in four rounds."""
    seconds = in_turns({"a": lambda: taken, "b": lambda: taken}, 3)
    assert [len(own) for own in seconds.values()] == [wanted, wanted]


@given(rounds)
def test_the_interval_holds_the_median(own: np.ndarray) -> None:
    low, high = bootstrap_interval(own, np.ones_like(own))
    assert own.min() <= low <= np.median(own) <= high <= own.max()


def test_drift_that_both_have_cancels() -> None:
    drift = np.linspace(1, 5, 9)
    assert bootstrap_interval(3 * drift, drift) == pytest.approx((3, 3))


def test_the_interval_is_narrower_the_more_rounds() -> None:
    random = np.random.default_rng(0)

    def width(count: int) -> float:
        low, high = bootstrap_interval(random.lognormal(size=count), np.ones(count))
        return high - low

    assert width(400) < width(9) / 3
