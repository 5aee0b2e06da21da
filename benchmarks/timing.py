"""Fair timing on a machine whose speed drifts: contenders take turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

_RESAMPLINGS = 5000


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, np.ndarray]:
    """Seconds of each contender in each round, float64 [rounds], after one run to warm up.

    Args:
        contenders: what to time; in each round they run one after the other, in this order.
        rounds: how often.
    """
    return in_turns({name: _clocked(one) for name, one in contenders.items()}, rounds)


def in_turns(
    contenders: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> dict[str, np.ndarray]:
    """As `interleaved`, of contenders that tell their seconds themselves and may be warm."""
    if warm_up:
        for contender in contenders.values():
            contender()
    seconds = {name: np.empty(rounds) for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            seconds[name][number] = contender()
    return seconds


def _clocked(contender: Callable[[], object]) -> Callable[[], float]:
    def timed() -> float:
        began = time.perf_counter()
        contender()
        return time.perf_counter() - began

    return timed


def paired_ratio(slower: np.ndarray, faster: np.ndarray) -> dict[str, float]:
    """How many times faster, round by round: the median, and what 9 in 10 rounds lie between."""
    low, middle, high = np.percentile(slower / faster, [5, 50, 95])
    return {"median": float(middle), "p05": float(low), "p95": float(high)}


def bootstrap_interval(slower: np.ndarray, faster: np.ndarray) -> tuple[float, float]:
    """Where the median ratio of paired rounds lies, in 95 of 100 resamplings of the rounds."""
    ratios = slower / faster
    drawn = np.random.default_rng(0).integers(0, len(ratios), (_RESAMPLINGS, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5])
    return float(low), float(high)


def longest_wait(work: Callable[[], object]) -> float:
    """How long another Python thread had to wait at most while `work` ran, in seconds."""
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
