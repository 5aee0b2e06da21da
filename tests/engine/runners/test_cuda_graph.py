from __future__ import annotations

import pytest

from pnp_ovss.engine.device import Device
from pnp_ovss.engine.runners.cuda_graph import Recorded
from tests.engine.runners import stand_ins


class Work:
    """Counts how often it was called, and how often what it queued was done."""

    def __init__(self, device: Device, *, refuses: bool = False) -> None:
        self.device = device
        self.refuses = refuses
        self.calls = self.done = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.refuses and self.device.stream.is_capturing():
            raise RuntimeError("not permitted while capturing")
        self.device.stream.queue(self._work)

    def _work(self) -> None:
        self.done += 1


def test_recorded_at_the_second_run_and_replayed_from_then_on() -> None:
    device = stand_ins.device()
    work = Work(device)
    step = Recorded(work, device, lambda: True)
    seen = []
    for _ in range(4):
        step()
        seen.append((work.calls, work.done, step.captured))
    assert seen == [(1, 1, False), (2, 2, True), (2, 3, True), (2, 4, True)]


def test_other_threads_may_allocate_meanwhile() -> None:
    device = stand_ins.device()
    step = Recorded(Work(device), device, lambda: True)
    step()
    step()
    assert device.stream.modes == [stand_ins.THREAD_LOCAL]


def test_what_the_library_forbids_is_not_tried() -> None:
    device = stand_ins.device()
    work = Work(device)
    step = Recorded(work, device, lambda: False)
    for _ in range(3):
        step()
    assert (work.calls, work.done, step.captured) == (3, 3, False)
    assert device.stream.modes == []


def test_what_refuses_to_be_recorded_runs_plainly() -> None:
    device = stand_ins.device()
    work = Work(device, refuses=True)
    step = Recorded(work, device, lambda: True)
    for _ in range(3):
        step()
    assert (work.done, step.captured) == (3, False)
    assert len(device.stream.modes) == 1
    assert not device.stream.is_capturing()


def test_a_real_fault_is_not_hidden() -> None:
    device = stand_ins.device()
    calls = iter([None, ValueError("recording"), ValueError("running")])

    def work() -> None:
        if fault := next(calls):
            raise fault

    step = Recorded(work, device, lambda: True)
    step()
    with pytest.raises(ValueError, match="running"):
        step()
