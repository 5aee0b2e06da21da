"""Where the time of a picture goes, contender by contender.

Timing contract: as `end_to_end`, but watched: on a GPU each stage waits for the device, so that
together they take longer than a run that is not watched. The median of each stage is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..contenders.base import Skipped, Task
from ..contenders.worker import loaded
from ..harness.prepared import PreparedModel


def measure(
    model: PreparedModel,
    task: Task,
    names: Sequence[str],
    *,
    rounds: int,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any] | Skipped]:
    """A row for each contender, one after the other.

    Args:
        model: that they load.
        task: what they do.
        names: of `registry.SEGMENTERS`.
        rounds: runs of each.
        about: fields of every row.
        say: is told of each step.
    """
    for name in names:
        with loaded([name], model, task, say) as (workers, skipped):
            yield from skipped
            for worker in workers:
                watched = [worker.watch(task) for _ in range(rounds)]
                yield {
                    "contender": name,
                    "stages": _medians([one.stages for one in watched]),
                    "peak_memory_mib": max(one.peak_memory_mib for one in watched),
                    "read_back": worker.read_back(),
                    **about,
                }


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of the seconds of each stage; one that a run did not have took none."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: float(np.median([run.get(name, 0) for run in runs])) for name in names}
