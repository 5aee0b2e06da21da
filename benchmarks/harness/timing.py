"""Fair timing on a machine whose speed drifts: contenders take turns.

The rounds that are asked for are the least: as long as all runs together have taken less than
`ENOUGH_S`, there are more, up to `MOST_TIMES` as many. Three runs of a few milliseconds say little.
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
    """Seconds of each contender in each round, float64 [N], after one run to warm up.

    Args:
        contenders: what to time; in each round they run one after the other, in this order.
        rounds: how often at least; N is more where runs are short, and the same for all.
    """
    return in_turns({name: _clocked(one) for name, one in contenders.items()}, rounds)


def in_turns(
    contenders: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> dict[str, np.ndarray]:
    """Time as `interleaved` does, of contenders that tell seconds themselves and may be warm."""
    if warm_up:
        for contender in contenders.values():
            contender()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    together = 0.0
    for number in range(MOST_TIMES * rounds):
        if number >= rounds and together >= ENOUGH_S:
            break
        for name, contender in contenders.items():
            seconds[name].append(contender())
            together += seconds[name][-1]
    return {name: np.array(own) for name, own in seconds.items()}


def _clocked(contender: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        began = time.perf_counter()
        contender()
        return time.perf_counter() - began

    return timed


def paired_ratio(slower: np.ndarray, faster: np.ndarray) -> dict[str, float]:
    """Ratio of times, round by round: the median, and what 9 in 10 rounds lie between."""
    low, middle, high = np.percentile(slower / faster, [5, 50, 95])
    return {"median": float(middle), "p05": float(low), "p95": float(high)}


def bootstrap_interval(slower: np.ndarray, faster: np.ndarray) -> tuple[float, float]:
    """Interval of the median ratio of paired rounds, in 95 of 100 resamplings of the rounds."""
    ratios = slower / faster
    drawn = np.random.default_rng(0).integers(0, len(ratios), (_RESAMPLINGS, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return float(low), float(high)


def longest_wait(work: Callable[[], object]) -> float:
    """Longest time that another Python thread had to wait while `work` ran, in seconds."""
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
