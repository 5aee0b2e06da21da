"""Two stages, overlapped: a batch on the model while the one before is finished on a worker."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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
) -> Iterator[Result]:
    """`single` of each of `batched`'s results, in the order of `items`.

    `batched` runs on the caller's thread, `single` on a worker. No more than two batches are under
    way, so memory is bounded and `items` is read no faster than results are taken. An error of
    either stage is raised when its item's turn comes, and ends the iteration.
    """
    source = iter(items)
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pnp-ovss-finish")
    pending: deque[Future[Result]] = deque()
    try:
        while batch := list(itertools.islice(source, batch_size)):
            waiting = len(pending)
            try:
                halves = batched(batch)
            except Exception:
                while pending:
                    yield pending.popleft().result()
                raise
            pending.extend(worker.submit(single, half) for half in halves)
            for _ in range(waiting):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        worker.shutdown(cancel_futures=True)
