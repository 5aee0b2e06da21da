"""Two stages, overlapped: a batch on the model while the one before is finished on a worker."""

from __future__ import annotations

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
) -> Generator[Result, None, None]:
    """`single` of each of `batched`'s results, in the order of `items`.

    `batched` runs on the caller's thread, `single` on a worker. No more than two batches are under
    way, so memory is bounded and `items` is read no faster than results are taken. An error, of
    `items` or of either stage, is raised when its turn comes, and ends the iteration.
    """
    batches = _batches(items, batch_size)
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pnp-ovss-finish")
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
            pending.extend(worker.submit(single, half) for half in halves)
            for _ in range(waiting):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        worker.shutdown(cancel_futures=True)


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
