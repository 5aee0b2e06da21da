"""CUDA graphs of PyTorch, on the CPU: what is recorded does not run, and what is replayed does."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pnp_ovss.engine.runners.torch_graphs import TorchGraphs
from torch import Tensor


class Cuda:
    """A stream that can be recorded, and a function that is queued on it: 2 x + y.

    Args:
        refuses: whether recording fails.
    """

    def __init__(self, refuses: bool = False) -> None:
        self.recording: list[Callable[[], object]] | None = None
        self.refuses = refuses
        self.queued = 0
        self.module = SimpleNamespace(
            cuda=SimpleNamespace(CUDAGraph=self.graph, graph_pool_handle=lambda: (0, 1))
        )

    def queue(self, work: Callable[[], object]) -> None:
        self.queued += 1
        if self.recording is None:
            work()
        elif self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        else:
            self.recording.append(work)

    def function(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        out = torch.full_like(x, torch.nan)
        self.queue(lambda: out.copy_(2 * x + y))
        return {"out": out}

    def graph(self) -> Any:
        recorded: list[Callable[[], object]] = []

        def begin(pool: Any, capture_error_mode: str) -> None:
            assert (pool, capture_error_mode) == ((0, 1), "thread_local")
            self.recording = recorded

        def end() -> None:
            was, self.recording = self.recording, None
            if was is None or self.refuses:
                raise RuntimeError("capture is void")

        return SimpleNamespace(
            capture_begin=begin, capture_end=end, replay=lambda: [work() for work in recorded]
        )


def inputs(seed: int, *shape: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name in "xy"}


def check(graphs: TorchGraphs, seed: int, *shape: int) -> Tensor:
    feeds = inputs(seed, *shape)
    found = graphs(feeds)["out"]
    torch.testing.assert_close(found, 2 * feeds["x"] + feeds["y"])
    return found


def test_the_second_call_of_a_shape_is_recorded_and_replayed_ever_after():
    cuda = Cuda()
    graphs = TorchGraphs(cuda.module, cuda.function)
    seen = [check(graphs, seed, 3, 2) for seed in range(5)]
    assert cuda.queued == 2
    for seed, found in enumerate(seen):  # no run has overwritten what another gave
        feeds = inputs(seed, 3, 2)
        torch.testing.assert_close(found, 2 * feeds["x"] + feeds["y"])
    assert graphs.captured == [({"x": (3, 2), "y": (3, 2)}, True)]


def test_each_shape_has_its_own():
    cuda = Cuda()
    graphs = TorchGraphs(cuda.module, cuda.function)
    for seed in range(3):
        for rows in (1, 4):
            check(graphs, seed, rows, 2)
    check(graphs, 9, 7, 2)
    assert cuda.queued == 5
    assert [captured for _, captured in graphs.captured] == [True, True, False]


def test_what_cannot_be_recorded_is_run_plainly():
    cuda = Cuda(refuses=True)
    graphs = TorchGraphs(cuda.module, cuda.function)
    for seed in range(4):
        check(graphs, seed, 3, 2)
    assert cuda.queued == 5  # tried once, and no more
    assert [captured for _, captured in graphs.captured] == [False]


def test_the_shape_that_was_not_used_for_longest_goes():
    cuda = Cuda()
    graphs = TorchGraphs(cuda.module, cuda.function, kept=2)
    for rows in (1, 1, 2, 2, 1, 3, 2):
        check(graphs, rows, rows, 2)
    assert [shapes["x"][0] for shapes, _ in graphs.captured] == [3, 2]
    assert [captured for _, captured in graphs.captured] == [False, False]


def test_a_real_fault_comes_up():
    def broken(**_: Tensor) -> dict[str, Tensor]:
        raise RuntimeError("out of memory")

    graphs = TorchGraphs(Cuda().module, broken)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="out of memory"):
            graphs(inputs(0, 1, 1))
