"""Times contenders fairly on a machine whose speed drifts: they take turns.

The number of rounds that is asked for is the minimum, as three runs of a few milliseconds say
little. Rounds are added until all runs together have taken `ENOUGH_S` seconds, up to `MOST_TIMES`
as many rounds as were asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

ENOUGH_S = 1.0
MOST_TIMES = 10
_RESAMPLINGS = 5000


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, np.ndarray]:
    """Time contenders in turns, after one run of each to warm up.

    Args:
        contenders: Functions to time; in each round they run one after the other, in this order.
        rounds: Minimum number of rounds; see the module.

    Returns:
        Seconds of each contender in each of N rounds, float64 [N].
    """
    return in_turns({name: _clocked(run) for name, run in contenders.items()}, rounds)


def in_turns(
    contenders: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> dict[str, np.ndarray]:
    """Time contenders in turns that measure their time themselves.

    Args:
        contenders: Functions that run a contender and return its seconds.
        rounds: Minimum number of rounds; see the module.
        warm_up: Whether each contender first runs once without being counted.

    Returns:
        Seconds of each contender in each of N rounds, float64 [N].
    """
    if warm_up:
        for contender in contenders.values():
            contender()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    total = 0.0
    for number in range(MOST_TIMES * rounds):
        if number >= rounds and total >= ENOUGH_S:
            break
        for name, contender in contenders.items():
            seconds[name].append(contender())
            total += seconds[name][-1]
    return {name: np.array(values) for name, values in seconds.items()}


def _clocked(contender: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        began = time.perf_counter()
        contender()
        return time.perf_counter() - began

    return timed


def paired_ratio(slower: np.ndarray, faster: np.ndarray) -> dict[str, float]:
    """Divide times round by round.

    Args:
        slower: Seconds of each round, float64 [N].
        faster: Seconds of another contender in the same rounds, float64 [N].

    Returns:
        Median, 5th and 95th percentile of the ratios: "median", "p05", "p95".
    """
    low, middle, high = np.percentile(slower / faster, [5, 50, 95])
    return {"median": float(middle), "p05": float(low), "p95": float(high)}


def bootstrap_interval(slower: np.ndarray, faster: np.ndarray) -> tuple[float, float]:
    """Estimate the 95 % bootstrap interval of the median ratio; see `paired_ratio`."""
    ratios = slower / faster
    drawn = np.random.default_rng(0).integers(0, len(ratios), (_RESAMPLINGS, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return float(low), float(high)


def longest_wait(work: Callable[[], object]) -> float:
    """Measure how long another Python thread had to wait at most while `work` ran, in seconds."""
    done = threading.Event()
    gaps = [0.0]

    def watch() -> None:
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.0005)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return max(gaps)
