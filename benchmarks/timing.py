"""Fair timing on a machine whose speed drifts: contenders take turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np


def interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, np.ndarray]:
    """Seconds of each contender in each round, float64 [rounds], after one run to warm up.

    Args:
        contenders: what to time; in each round they run one after the other, in this order.
        rounds: how often.
    """
    for contender in contenders.values():
        contender()
    seconds = {name: np.empty(rounds) for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            began = time.perf_counter()
            contender()
            seconds[name][number] = time.perf_counter() - began
    return seconds


def paired_ratio(slower: np.ndarray, faster: np.ndarray) -> dict[str, float]:
    """How many times faster, round by round: the median, and what 9 in 10 rounds lie between."""
    low, middle, high = np.percentile(slower / faster, [5, 50, 95])
    return {"median": float(middle), "p05": float(low), "p95": float(high)}


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
