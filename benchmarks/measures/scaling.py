"""Measures how the time of an image grows with classes, passes, and images in a batch.

Timing contract: a stream of images, from the file to labels in memory, CRF included, the model
loaded and warm; seconds are for one image. All contenders of a case take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..contenders.base import CLASS_NAMES, Skipped, Task
from ..contenders.worker import loaded
from ..harness.prepared import PreparedModel
from ..harness.records import Rows
from ..harness.tables import heading
from ..harness.timing import in_turns

AXES: dict[str, tuple[int, ...]] = {
    "classes": (1, 3, 8, 20),
    "passes": (1, 2, 4, 8),
    "batch": (1, 2, 4),
}
_BATCHES = 2  # batches in a stream, so that one is refined while the model runs on the next


def measure(
    model: PreparedModel,
    task: Task,
    names: Sequence[str],
    *,
    rounds: int,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any] | Skipped]:
    """Measure a row for each contender at each value of each axis.

    Args:
        model: Model that the contenders load.
        task: Task of the contenders, which changes along one axis at a time.
        names: Names of segmenters, of `registry.SEGMENTERS`.
        rounds: Minimum number of turns of each contender; see `harness.timing`.
        about: Fields that every row repeats: case, model, machine and command.
        say: Function that is called with a line of text at each step.
    """
    with loaded(names, model, task, say) as (workers, skipped):
        yield from skipped
        for axis, values in AXES.items():
            for value in values:
                say(f"{axis} = {value}")
                batch = value if axis == "batch" else 1
                images = _BATCHES * batch if axis == "batch" else 1
                varied = _varied(task, axis, value)
                runs = {
                    worker.name: partial(worker.stream, varied, images, batch) for worker in workers
                }
                for name, seconds in in_turns(runs, rounds).items():
                    yield {
                        "contender": name,
                        "axis": axis,
                        "value": value,
                        "seconds": float(np.median(seconds)) / images,
                        "rounds": len(seconds),
                        **about,
                    }


def _varied(task: Task, axis: str, value: int) -> Task:
    if axis == "classes":
        return replace(task, classes=CLASS_NAMES[:value])
    return replace(task, passes=value) if axis == "passes" else task


def table(rows: Rows) -> str:
    """Write the rows as Markdown, a table for each axis."""
    timed = [row for row in rows if "seconds" in row]
    if not timed:
        return "No contender could be timed."
    parts = [heading(timed[0])]
    for axis, values in AXES.items():
        seconds = {(r["contender"], r["value"]): r["seconds"] for r in timed if r["axis"] == axis}
        names = dict.fromkeys(name for name, _ in seconds)
        lines = [
            f"| seconds an image, by {axis} | " + " | ".join(map(str, values)) + " |",
            "|---|" + "---:|" * len(values),
            *(
                f"| {name} | " + " | ".join(f"{seconds[name, v]:.2f}" for v in values) + " |"
                for name in names
            ),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def draw(rows: Rows, output: Path) -> None:
    """Draw a panel for each axis, as a PNG file."""
    timed = [row for row in rows if "seconds" in row]
    names = list(dict.fromkeys(row["contender"] for row in timed))
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, len(AXES))
    for axes, (axis, values) in zip(panels, AXES.items(), strict=True):
        for number, name in enumerate(names):
            points = [r for r in timed if (r["contender"], r["axis"]) == (name, axis)]
            axes.loglog(
                [row["value"] for row in points],
                [row["seconds"] for row in points],
                marker="osv^D"[number % 5],
                label=name,
            )
        axes.set_xticks(values, [str(value) for value in values])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set(xlabel={"batch": "images in a batch"}.get(axis, axis))
    panels[0].set(ylabel="seconds an image")
    if names:
        panels[0].legend(fontsize=8)
    figure.savefig(output, dpi=110)
