"""Where the time of a picture goes, contender by contender.

Timing contract: as `end_to_end`, but watched: on a GPU each stage waits for the device, so that
together they take longer than a run that is not watched. The median of each stage is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..contenders.base import Skipped, Task
from ..contenders.worker import loaded
from ..harness.prepared import PreparedModel
from ..harness.records import Rows
from ..harness.tables import heading, not_timed, note_on_crf

STAGES = (
    "decode",
    "preprocess",
    "vision",
    "salience",
    "match of each class",
    "between passes",
    "refine",
    "crf",
    "write",
    "other",
)
"""Stages in the order in which a picture takes them, as tables and plots show them."""


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
    """Median seconds of each stage; one that a run did not have took none."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: float(np.median([run.get(name, 0) for run in runs])) for name in names}


def table(rows: Rows) -> str:
    """The stages of each contender as Markdown."""
    timed = [row for row in rows if "stages" in row]
    if not timed:
        return not_timed(rows)
    there = [name for name in STAGES if any(row["stages"].get(name, 0) > 5e-4 for row in timed)]
    lines = [
        "| contender | " + " | ".join(f"{name}, ms" for name in there) + " | together, ms |",
        "|---|" + "---:|" * (len(there) + 1),
    ]
    for row in timed:
        own = [1000 * row["stages"].get(name, 0) for name in there]
        together = 1000 * sum(row["stages"].values())
        lines.append(
            f"| {row['contender']} | "
            + " | ".join(f"{one:.0f}" for one in own)
            + f" | {together:.0f} |"
        )
    note = (
        "Vision and salience are those of all K passes; PyTorch's back-propagation counts to the"
        " salience, through the image encoder too in `released`. Only the engine scores each class."
    )
    parts = [heading(timed[0]), "\n".join(lines), note, note_on_crf(timed), not_timed(rows)]
    return "\n\n".join(filter(None, parts))


def draw(rows: Rows, output: Path) -> None:
    """Draw stacked bars, PNG: the time of each stage of each contender."""
    timed = [row for row in rows if "stages" in row]
    figure = Figure(figsize=(9, 1.2 + 0.34 * max(1, len(timed))), layout="constrained")
    axes = figure.subplots()
    several = len({row["case"]["device"] for row in timed}) > 1
    names = [
        f"{row['contender']}, {row['case']['device']}" if several else row["contender"]
        for row in timed
    ]
    left = np.zeros(len(timed))
    for number, stage in enumerate(STAGES):
        seconds = np.array([row["stages"].get(stage, 0) for row in timed])
        if seconds.max(initial=0) > 0:
            axes.barh(names, seconds, left=left, label=stage, color=f"C{number}")
            left += seconds
    axes.invert_yaxis()
    axes.set(xlabel="seconds a picture")
    for name, whole in zip(names, left, strict=True):
        axes.annotate(f" {whole:.2f}", (whole, name), va="center", fontsize=8)
    axes.margins(x=0.08)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(output, dpi=110)
