from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pnp_ovss.engine.pipeline.overlap import overlap

batch_sizes = st.integers(1, 6)
positions = st.none() | st.integers(0, 24)


class FailedError(Exception):
    def __init__(self, stage: str, item: int) -> None:
        super().__init__(stage, item)


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("pnp-ovss-worker")]


def same(items: Sequence[int]) -> Sequence[int]:
    return items


def negate(item: int) -> int:
    return -item


def drain(results: Iterator[int], expected: type[BaseException]):
    """What came before the error, and the error."""
    taken = []
    try:
        for result in results:
            taken.append(result)
    except expected as error:
        return taken, error
    pytest.fail(f"no {expected.__name__} after {taken}")


def close(results: Iterator[int]) -> None:
    assert isinstance(results, Generator)
    results.close()


@pytest.fixture(autouse=True)
def _no_worker_is_left_behind():
    assert not workers()
    yield
    assert not workers()


@given(st.integers(0, 25), batch_sizes, st.integers(1, 4))
def test_results_come_in_order_from_full_batches(count, batch_size, workers):
    sizes = []

    def batched(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        return [10 * item for item in items]

    assert list(overlap(range(count), int, batched, negate, batch_size, workers)) == [
        -10 * item for item in range(count)
    ]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == count


@given(batch_sizes, st.integers(1, 25))
def test_no_more_than_three_batches_are_read_ahead(batch_size, wanted):
    read = 0

    def source() -> Iterator[int]:
        nonlocal read
        for item in range(1000):
            read += 1
            yield item

    results = overlap(source(), int, same, negate, batch_size)
    assert read == 0
    for taken in range(wanted):
        assert next(results) == -taken
        assert read <= taken + 3 * batch_size
    close(results)


def test_the_model_runs_a_batch_while_the_one_before_is_finished():
    second_batch = threading.Event()

    def batched(items: Sequence[int]) -> Sequence[int]:
        if items[0] == 2:
            second_batch.set()
        return items

    def single(item: int) -> bool:
        return second_batch.wait(timeout=10)

    assert all(overlap(range(4), int, batched, single, 2))


@pytest.mark.parametrize("count", [1, 3])
def test_batches_stay_on_the_callers_thread_and_the_rest_on_workers(count: int):
    threads: dict[str, set[threading.Thread]] = {
        "prepare": set(),
        "batched": set(),
        "single": set(),
    }

    def prepare(item: int) -> int:
        threads["prepare"].add(threading.current_thread())
        return item

    def batched(items: Sequence[int]) -> Sequence[int]:
        threads["batched"].add(threading.current_thread())
        return items

    def single(item: int) -> int:
        threads["single"].add(threading.current_thread())
        together.wait(timeout=10)
        return item

    together = threading.Barrier(count)
    list(overlap(range(6 * count), prepare, batched, single, count, count))
    assert threads["batched"] == {threading.current_thread()}
    assert len(threads["single"]) == count
    assert (threads["prepare"] | threads["single"]).isdisjoint(threads["batched"])


def test_the_next_batch_is_prepared_while_the_model_runs():
    third = threading.Event()

    def prepare(item: int) -> int:
        if item == 2:
            third.set()
        return item

    def batched(items: Sequence[int]) -> Sequence[int]:
        assert items[0] != 1 or third.wait(timeout=10)
        return items

    assert list(overlap(range(4), prepare, batched, negate, 1)) == [0, -1, -2, -3]


def one_after_the_other(
    items: Sequence[int],
    prepare: Callable[[int], int],
    batched: Callable[[Sequence[int]], Sequence[int]],
    single: Callable[[int], int],
    batch_size: int,
) -> Iterator[int]:
    for start in range(0, len(items), batch_size):
        for half in batched([prepare(item) for item in items[start : start + batch_size]]):
            yield single(half)


@given(st.integers(1, 25), batch_sizes, positions, positions, positions, st.integers(1, 4))
def test_errors_are_raised_at_their_turn(
    count, batch_size, bad_prepare, bad_batched, bad_single, workers
):
    def prepare(item: int) -> int:
        if item == bad_prepare:
            raise FailedError("prepare", item)
        return item

    def batched(items: Sequence[int]) -> Sequence[int]:
        if bad_batched in items:
            raise FailedError("batched", items[0])
        return items

    def single(item: int) -> int:
        if item == bad_single:
            raise FailedError("single", item)
        return item

    items = range(count)
    results = overlap(items, prepare, batched, single, batch_size, workers)
    expected = one_after_the_other(items, prepare, batched, single, batch_size)
    if count <= min(
        count if bad is None else bad for bad in (bad_prepare, bad_batched, bad_single)
    ):
        assert list(results) == list(expected)
        return
    (taken, error), (before, first) = drain(results, FailedError), drain(expected, FailedError)
    assert (taken, error.args) == (before, first.args)
    assert next(results, None) is None


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_batch_is_not_held_back(interrupt):
    def batched(items: Sequence[int]) -> Sequence[int]:
        if 2 in items:
            raise interrupt
        return items

    taken, _ = drain(overlap(range(6), int, batched, negate, 2), interrupt)
    assert taken == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_on_the_worker_reaches_the_caller(interrupt):
    def single(item: int) -> int:
        if item == 3:
            raise interrupt
        return item

    taken, _ = drain(overlap(range(6), int, same, single, 2), interrupt)
    assert taken == [0, 1, 2]


def test_an_interrupt_while_a_result_is_used_stops_the_worker():
    def use() -> None:
        for _ in overlap(range(1000), int, same, negate, 2):
            assert workers()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_closing_early_drops_what_has_not_begun(taken):
    finished = []

    def single(item: int) -> int:
        time.sleep(0.01)
        finished.append(item)
        return item

    results = overlap(range(1000), int, same, single, 50)
    assert [next(results) for _ in range(taken)] == list(range(taken))
    close(results)
    done = len(finished)
    assert done < 50
    time.sleep(0.03)
    assert len(finished) == done


def test_an_error_of_the_source_is_raised():
    def source() -> Iterator[int]:
        yield 1
        raise FailedError("source", 1)

    with pytest.raises(FailedError):
        list(overlap(source(), int, same, negate, 1))
