"""Overlap three stages: images are prepared and finished on workers, batches run in between."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from ..errors import ExecutionError
from .workers import Workers

Item = TypeVar("Item")
Ready = TypeVar("Ready")
Half = TypeVar("Half")
Result = TypeVar("Result")


def overlap(
    items: Iterable[Item],
    prepare: Callable[[Item], Ready],
    batched: Callable[[Sequence[Ready]], Sequence[Half]],
    finish: Callable[[Half], Result],
    batch_size: int,
    workers: int = 1,
) -> Generator[Result, None, None]:
    """Run items through three stages, and yield the results in the order of the items.

    `batched` runs on the caller's thread, `prepare` and `finish` on workers. At most three batches
    are under way, one in each stage. So memory is bounded, and items are read no faster than
    results are taken. An error of `items` or of a stage is raised when its turn comes, and ends
    the iteration. So is an error in a forked child that goes on with its parent's iteration.

    Args:
        items: what to run through the stages.
        prepare: first stage, of an item.
        batched: second stage, of a batch of what `prepare` returned.
        finish: third stage, of what `batched` returned for an item.
        batch_size: number of items in a batch.
        workers: number of worker threads.
    """
    pool = Workers(workers, "pnp-ovss-worker")
    batches = _one_ahead(_batches(items, batch_size), lambda item: pool.submit(prepare, item))
    pending: deque[Future[Result]] = deque()
    process = os.getpid()

    def results(count: int) -> Iterator[Result]:
        for _ in range(count):
            yield pending.popleft().result()
            if os.getpid() != process:  # nothing finishes here what the parent has begun
                raise ExecutionError(
                    "the stream was begun before this process was forked",
                    "begin a stream in each process",
                )

    try:
        while True:
            waiting = len(pending)
            try:
                batch = next(batches, None)
                halves = None if batch is None else batched([item.result() for item in batch])
            except Exception:
                yield from results(len(pending))
                raise
            if halves is None:
                break
            pending.extend(pool.submit(finish, half) for half in halves)
            yield from results(waiting)
        yield from results(len(pending))
    finally:
        pool.close()


def _one_ahead(
    batches: Iterator[list[Item]], submit: Callable[[Item], Future[Ready]]
) -> Iterator[list[Future[Ready]]]:
    """Submit each batch before the batch ahead of it is yielded; an error comes last."""
    held: list[Future[Ready]] | None = None
    try:
        for batch in batches:
            submitted = [submit(item) for item in batch]
            if held is not None:
                yield held
            held = submitted
    except Exception:
        if held is not None:
            yield held
        raise
    if held is not None:
        yield held


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Group items into lists of `size`; where `items` raises, its earlier items come first."""
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
