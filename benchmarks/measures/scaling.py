"""How the time of a picture grows with classes, passes, and pictures in a batch.

Timing contract: pictures of a stream, from the file to labels in memory, CRF included, the model
loaded and warm; seconds are for a picture. All contenders of a case take turns.
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
_BATCHES = 2  # of a stream, so that one is refined while the next one runs


def measure(
    model: PreparedModel,
    task: Task,
    names: Sequence[str],
    *,
    rounds: int,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any] | Skipped]:
    """A row for each contender at each point of each axis; elsewhere the task is as given.

    Args:
        model: that they load.
        task: what they do.
        names: of `registry.SEGMENTERS`.
        rounds: turns of each, at least; see `timing`.
        about: fields of every row.
        say: is told of each step.
    """
    with loaded(names, model, task, say) as (workers, skipped):
        yield from skipped
        for axis, values in AXES.items():
            for value in values:
                say(f"{axis} = {value}")
                batch = value if axis == "batch" else 1
                pictures = _BATCHES * batch if axis == "batch" else 1
                own = _varied(task, axis, value)
                runs = {
                    worker.name: partial(worker.stream, own, pictures, batch) for worker in workers
                }
                for name, seconds in in_turns(runs, rounds).items():
                    yield {
                        "contender": name,
                        "axis": axis,
                        "value": value,
                        "seconds": float(np.median(seconds)) / pictures,
                        "rounds": len(seconds),
                        **about,
                    }


def _varied(task: Task, axis: str, value: int) -> Task:
    if axis == "classes":
        return replace(task, classes=CLASS_NAMES[:value])
    return replace(task, passes=value) if axis == "passes" else task


def table(rows: Rows) -> str:
    """The rows as Markdown, a table for each axis."""
    timed = [row for row in rows if "seconds" in row]
    if not timed:
        return "Nothing could be timed."
    parts = [heading(timed[0])]
    for axis, values in AXES.items():
        own = {(r["contender"], r["value"]): r["seconds"] for r in timed if r["axis"] == axis}
        names = dict.fromkeys(name for name, _ in own)
        lines = [
            f"| seconds a picture, by {axis} | " + " | ".join(map(str, values)) + " |",
            "|---|" + "---:|" * len(values),
            *(
                f"| {name} | " + " | ".join(f"{own[name, value]:.2f}" for value in values) + " |"
                for name in names
            ),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def draw(rows: Rows, output: Path) -> None:
    """A panel for each axis, PNG."""
    timed = [row for row in rows if "seconds" in row]
    names = list(dict.fromkeys(row["contender"] for row in timed))
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, len(AXES))
    for axes, (axis, values) in zip(panels, AXES.items(), strict=True):
        for number, name in enumerate(names):
            own = [r for r in timed if (r["contender"], r["axis"]) == (name, axis)]
            axes.loglog(
                [row["value"] for row in own],
                [row["seconds"] for row in own],
                marker="osv^D"[number % 5],
                label=name,
            )
        axes.set_xticks(values, [str(value) for value in values])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set(xlabel={"batch": "pictures in a batch"}.get(axis, axis))
    panels[0].set(ylabel="seconds a picture")
    if names:
        panels[0].legend(fontsize=8)
    figure.savefig(output, dpi=110)
