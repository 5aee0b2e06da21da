"""Two stages, overlapped: a batch on the model while the one before is finished on workers."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Half = TypeVar("Half")
Result = TypeVar("Result")


def overlap(
    items: Iterable[Item],
    batched: Callable[[Sequence[Item]], Sequence[Half]],
    single: Callable[[Half], Result],
    batch_size: int,
    workers: int = 1,
) -> Generator[Result, None, None]:
    """`single` of each of `batched`'s results, in the order of `items`.

    `batched` runs on the caller's thread, `single` on `workers` others. No more than two batches
    are under way, so memory is bounded and `items` is read no faster than results are taken. An
    error, of `items` or of either stage, is raised when its turn comes, and ends the iteration.
    """
    batches = _batches(items, batch_size)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pnp-ovss-finish")
    pending: deque[Future[Result]] = deque()
    try:
        while True:
            waiting = len(pending)
            try:
                batch = next(batches, None)
                halves = batched(batch) if batch else None
            except Exception:
                while pending:
                    yield pending.popleft().result()
                raise
            if halves is None:
                break
            pending.extend(pool.submit(single, half) for half in halves)
            for _ in range(waiting):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def processors() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size`; where `items` raises, what it gave before comes first."""
    batch: list[Item] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
