"""Where the time of a picture goes, contender by contender.

Timing contract: as `end_to_end`, but watched: on a GPU each stage waits for the device, so that
together they take longer than a run that is not watched. The median of each stage is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .segmenters import Model, SkippedError, Task
from .worker import Worker


def measure(
    model: Model,
    task: Task,
    names: Sequence[str],
    *,
    rounds: int,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """A row for each contender, one after the other.

    Args:
        model: that they load.
        task: what they do.
        names: of `segmenters.SUBJECTS`.
        rounds: runs of each.
        about: fields of every row.
        say: is told of each step.
    """
    for name in names:
        say(name)
        with Worker(name, model) as worker:
            try:
                worker.load(task)
            except SkippedError as error:
                yield {"contender": name, "skipped": str(error)}
                continue
            watched = [worker.watch(task) for _ in range(rounds)]
        stages = {stage for one in watched for stage in one.stages}
        yield {
            "contender": name,
            "stages": {
                stage: float(np.median([one.stages.get(stage, 0) for one in watched]))
                for stage in stages
            },
            "peak_memory_mib": max(one.peak_memory_mib for one in watched),
            **about,
        }
