"""CUDA graphs of PyTorch, on the CPU: what is recorded does not run, and what is replayed does."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pnp_ovss.engine.runners.torch_graphs import TorchGraphs

Pool = tuple[int, int]


class Cuda:
    """A stream that can be recorded, and a function that is queued on it: 2 x + y.

    Args:
        refuses: whether what is queued cannot be recorded.
    """

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.fails = False
        self.queued = 0
        self.recording: Graph | None = None
        self.allocating: list[Pool] = []  # pools that the allocator records to
        self.held: dict[Pool, weakref.WeakSet[Graph]] = {}
        numbers = count(1)
        self.module = SimpleNamespace(
            cuda=SimpleNamespace(
                CUDAGraph=lambda: Graph(self),
                graph_pool_handle=lambda: (0, next(numbers)),
                current_device=lambda: 0,
            ),
            _C=SimpleNamespace(
                _cuda_endAllocateToPool=lambda _, pool: self.allocating.remove(pool),
                _cuda_releasePool=lambda _, pool: self.held.pop(pool),
            ),
        )

    def queue(self, work: Callable[[], object]) -> None:
        self.queued += 1
        if self.fails:
            raise RuntimeError("out of memory")
        if self.recording is None:
            work()
        elif self.refuses:
            self.recording.void = True
            raise RuntimeError("operation not permitted when stream is capturing")
        else:
            self.recording.work.append(work)

    def function(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        out = torch.full_like(x, torch.nan)
        self.queue(lambda: out.copy_(2 * x + y))
        return {"out": out}


class Graph:
    """A `torch.cuda.CUDAGraph`; what it refuses, that does."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.work: list[Callable[[], object]] = []
        self.void = False
        self.where: Pool = (0, 0)

    def capture_begin(self, pool: Pool, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local"
        if self.cuda.allocating:
            raise RuntimeError("already recording to mempool_id")
        if pool in self.cuda.held and not self.cuda.held[pool]:
            raise RuntimeError("use_count > 0")
        self.cuda.held.setdefault(pool, weakref.WeakSet()).add(self)
        self.cuda.allocating.append(pool)
        self.cuda.recording, self.where = self, pool

    def capture_end(self) -> None:
        self.cuda.recording = None
        if self.void:
            raise RuntimeError("capture is void")
        self.cuda.allocating.remove(self.where)

    def pool(self) -> Pool:
        return self.where

    def replay(self) -> None:
        for work in self.work:
            work()


def inputs(seed: int, *shape: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name in "xy"}


def check(graphs: TorchGraphs, seed: int, *shape: int) -> Tensor:
    feeds = inputs(seed, *shape)
    found = graphs(**feeds)["out"]
    torch.testing.assert_close(found, 2 * feeds["x"] + feeds["y"])
    return found


def replayed(graphs: TorchGraphs) -> dict[int, bool]:
    """By the rows of x."""
    return {shapes["x"][0]: captured for shapes, captured in graphs.captured}


def test_the_second_call_of_a_shape_is_recorded_and_replayed_ever_after():
    cuda = Cuda()
    graphs = TorchGraphs(cuda.module, cuda.function)
    seen = [check(graphs, seed, 3, 2) for seed in range(5)]
    assert cuda.queued == 2
    for seed, found in enumerate(seen):  # no run has overwritten what another gave
        feeds = inputs(seed, 3, 2)
        torch.testing.assert_close(found, 2 * feeds["x"] + feeds["y"])
    assert graphs.captured == [({"x": (3, 2), "y": (3, 2)}, True)]


def test_each_shape_has_its_own_in_one_pool():
    cuda = Cuda()
    graphs = TorchGraphs(cuda.module, cuda.function)
    for seed in range(3):
        for rows in (1, 4):
            check(graphs, seed, rows, 2)
    check(graphs, 9, 7, 2)
    assert cuda.queued == 5
    assert replayed(graphs) == {1: True, 4: True, 7: False}
    assert len(cuda.held) == 1


def test_what_cannot_be_recorded_is_run_plainly_and_leaves_the_others(
    caplog: pytest.LogCaptureFixture,
):
    cuda = Cuda(refuses=True)
    graphs = TorchGraphs(cuda.module, cuda.function)
    with caplog.at_level(logging.WARNING):
        for seed in range(4):
            check(graphs, seed, 3, 2)
    assert cuda.queued == 5  # tried once, and no more
    assert replayed(graphs) == {3: False}
    assert "operation not permitted when stream is capturing" in caplog.text
    assert not cuda.allocating
    cuda.refuses = False
    for seed in range(3):
        check(graphs, seed, 1, 2)
    assert replayed(graphs) == {3: False, 1: True}


def test_the_shape_that_was_not_used_for_longest_goes():
    cuda = Cuda()
    graphs = TorchGraphs(cuda.module, cuda.function, kept=2)
    for rows in (1, 1, 2, 2, 1, 3, 2):
        check(graphs, rows, rows, 2)
    assert replayed(graphs) == {3: False, 2: False}
    check(graphs, 5, 3, 2)  # in a new pool, as that of the others went with them
    assert replayed(graphs) == {2: False, 3: True}


def test_a_run_that_failed_is_no_warm_up():
    cuda = Cuda()
    graphs = TorchGraphs(cuda.module, cuda.function)
    cuda.fails = True
    for _ in range(3):
        with pytest.raises(RuntimeError, match="out of memory"):
            graphs(**inputs(0, 1, 1))
    cuda.fails = False
    check(graphs, 1, 1, 1)
    assert replayed(graphs) == {1: False}
    check(graphs, 1, 1, 1)
    assert replayed(graphs) == {1: True}


def test_it_is_recorded_on_a_thread_that_ran_it():
    cuda = Cuda()
    graphs = TorchGraphs(cuda.module, cuda.function)

    def elsewhere(action: Callable[[], Any]) -> None:
        thread = threading.Thread(target=action)
        thread.start()
        thread.join()

    check(graphs, 1, 3, 2)
    elsewhere(lambda: check(graphs, 2, 3, 2))
    assert replayed(graphs) == {3: False}
    check(graphs, 3, 3, 2)
    assert replayed(graphs) == {3: False}
    check(graphs, 4, 3, 2)
    assert replayed(graphs) == {3: True}
    elsewhere(lambda: check(graphs, 5, 3, 2))
    assert cuda.queued == 4
