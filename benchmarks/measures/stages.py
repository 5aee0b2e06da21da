"""Measures the time of each stage of an image, contender by contender.

Timing contract: that of `end_to_end`, with a clock at each stage. On a GPU each stage waits for the
device, so that all stages together take longer than a normal run. The median of each stage is
shown.
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
"""Stages in the order in which an image takes them, as tables and plots show them."""


def measure(
    model: PreparedModel,
    task: Task,
    names: Sequence[str],
    *,
    rounds: int,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any] | Skipped]:
    """Measure a row for each contender, one contender after the other.

    Args:
        model: Model that the contenders load.
        task: Task of the contenders.
        names: Names of segmenters, of `registry.SEGMENTERS`.
        rounds: Number of runs of each contender.
        about: Fields that every row repeats: case, model, machine and command.
        say: Function that is called with a line of text at each step.
    """
    for name in names:
        with loaded([name], model, task, say) as (workers, skipped):
            yield from skipped
            for worker in workers:
                watched = [worker.watch(task) for _ in range(rounds)]
                yield {
                    "contender": name,
                    "stages": _medians([run.stages for run in watched]),
                    "peak_memory_mib": max(run.peak_memory_mib for run in watched),
                    "read_back": worker.read_back(),
                    **about,
                }


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Compute the median seconds of each stage; a stage that is missing in a run took 0."""
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: float(np.median([run.get(name, 0) for run in runs])) for name in names}


def table(rows: Rows) -> str:
    """Write the stages of each contender as Markdown."""
    timed = [row for row in rows if "stages" in row]
    if not timed:
        return not_timed(rows)
    shown = [name for name in STAGES if any(row["stages"].get(name, 0) > 5e-4 for row in timed)]
    lines = [
        "| contender | " + " | ".join(f"{name}, ms" for name in shown) + " | total, ms |",
        "|---|" + "---:|" * (len(shown) + 1),
    ]
    for row in timed:
        cells = [f"{1000 * row['stages'].get(name, 0):.0f}" for name in shown]
        total = 1000 * sum(row["stages"].values())
        lines.append(f"| {row['contender']} | " + " | ".join(cells) + f" | {total:.0f} |")
    note = (
        "Vision and salience are summed over all K passes. Salience includes PyTorch's"
        " back-propagation, in `released` also that through the image encoder. Only the engine"
        " scores each class."
    )
    parts = [heading(timed[0]), "\n".join(lines), note, note_on_crf(timed), not_timed(rows)]
    return "\n\n".join(filter(None, parts))


def draw(rows: Rows, output: Path) -> None:
    """Draw the stages of each contender as stacked bars, a PNG file."""
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
    axes.set(xlabel="seconds an image")
    for name, total in zip(names, left, strict=True):
        axes.annotate(f" {total:.2f}", (total, name), va="center", fontsize=8)
    axes.margins(x=0.08)
    axes.legend(fontsize=8, loc="lower right")
    figure.savefig(output, dpi=110)
