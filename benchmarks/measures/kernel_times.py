"""What the engine has a device do: the time of each kernel of one picture, and of a stream.

Timing contract: from the picture's file to labels in memory, CRF included, the model loaded and
warm. Wall time is that of runs that are not watched. The kernels are those of one more run, watched
by PyTorch's profiler: on a GPU by way of CUPTI, which sees what any library queued, and what graphs
replay; on the CPU PyTorch's own operators, of which most backends have none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from ..contenders.base import Skipped, SkippedError, Task, TimedSegmenter, skipped_if_it_fails
from ..contenders.registry import load
from ..harness.prepared import PreparedModel
from ..harness.records import Rows
from ..harness.tables import heading
from ..harness.timing import interleaved

PICTURES = 16  # of the stream, in one batch
WARM_UP = 3
LARGEST = 30  # kernels of a table
_NAME = 110  # letters of one


class Kernel(NamedTuple):
    """A kernel of a run: how often it ran, and seconds in all."""

    name: str
    calls: int
    seconds: float


class KernelProfile(NamedTuple):
    """Kernels of a run, those that took longest first, and seconds in which any was running."""

    kernels: list[Kernel]
    busy_s: float


def measure(
    model: PreparedModel,
    task: Task,
    name: str,
    *,
    rounds: int,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any] | Skipped]:
    """Rows of one picture and of a stream: one of the whole, then one for each kernel.

    Args:
        model: to load.
        task: what is done.
        name: of `registry.ENGINE_SEGMENTERS`.
        rounds: runs that are timed, at least; see `timing`.
        about: fields of the rows of the whole.
        say: is told of each step.
    """
    try:
        with skipped_if_it_fails():
            say(f"loading {name}")
            segmenter = load(name, model)
            for what, run in _runs(segmenter, task).items():
                say(f"{name}, {what}")
                for _ in range(WARM_UP):
                    run()
                seconds = interleaved({what: run}, rounds)[what]
                low, middle, high = np.percentile(seconds, [5, 50, 95]).tolist()
                found = profile_kernels(run, model.device)
                whole = sum(kernel.seconds for kernel in found.kernels)
                yield {
                    "what": what,
                    "contender": name,
                    "median_s": middle,
                    "p05_s": low,
                    "p95_s": high,
                    "rounds": len(seconds),
                    "device_s": whole,
                    "idle_share": max(0.0, 1 - found.busy_s / middle),
                    "read_back": segmenter.read_back(),
                    **about,
                }
                for kernel in found.kernels:
                    yield {
                        "what": what,
                        "device": model.device,
                        "name": kernel.name,
                        "calls": kernel.calls,
                        "total_ms": 1000 * kernel.seconds,
                        "share": kernel.seconds / whole if whole else 0.0,
                    }
    except SkippedError as error:
        yield Skipped(name, model.device, str(error), failed=error.failed)


def _runs(segmenter: TimedSegmenter, task: Task) -> dict[str, Callable[[], object]]:
    return {
        "one picture": partial(segmenter.segment, task),
        f"{PICTURES} pictures in a batch": partial(segmenter.stream, task, PICTURES, PICTURES),
    }


def profile_kernels(run: Callable[[], object], device: str) -> KernelProfile:
    """Kernels that a run has a device do.

    Args:
        run: waits for the device itself.
        device: "cpu" or "cuda:N".
    """
    on_gpu = device != "cpu"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    events: list[Any] = []
    for _ in range(2):  # CUPTI misses kernels while it starts: the first time does not count
        if on_gpu:
            torch.cuda.synchronize(device)
        with profile(activities=[activity]) as found:
            run()
            if on_gpu:
                torch.cuda.synchronize(device)
        every: Iterable[Any] = found.events() or []
        events = [event for event in every if event.device_type.name == activity.name]
    calls: dict[str, int] = defaultdict(int)
    micros: dict[str, float] = defaultdict(float)
    for event in events:
        calls[event.name] += 1
        # An operator of the CPU holds those that it calls; a kernel holds none.
        own = event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total
        micros[event.name] += own
    kernels = [Kernel(name, calls[name], 1e-6 * own) for name, own in micros.items()]
    kernels.sort(key=lambda kernel: -kernel.seconds)
    spans = [(event.time_range.start, event.time_range.end) for event in events]
    return KernelProfile(kernels, 1e-6 * covered(spans))


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Time that lies in any of some spans, which may overlap."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def table(rows: Rows) -> str:
    """The rows as Markdown: of each device, of one picture and of the stream, the largest."""
    parts: list[str] = []
    for row in rows:
        if "skipped" in row:
            parts.append(f"Not timed on {row['device']}: {row['contender']}: {row['skipped']}")
        elif "median_s" in row:
            device = row["case"]["device"]
            own = [one for one in rows if one.get("device") == device and "total_ms" in one]
            parts.append(_of_run(row, [one for one in own if one["what"] == row["what"]]))
    timed = [row for row in rows if "median_s" in row]
    return "\n\n".join([*([heading(timed[0])] if timed else []), *parts])


def _of_run(row: dict[str, Any], kernels: Rows) -> str:
    device = row["case"]["device"]
    title = f"## {row['contender']} on {device}, {row['what']}"
    wall = (
        f"{1000 * row['median_s']:.2f} ms ({1000 * row['p05_s']:.2f} to"
        f" {1000 * row['p95_s']:.2f}, {row['rounds']} runs)"
    )
    if not kernels:
        return f"{title}\n\n{wall}. PyTorch's profiler saw no kernel."
    kind = "operators of PyTorch" if device == "cpu" else "kernels"
    lines = [
        f"{wall}; {kind} {1000 * row['device_s']:.2f} ms in all, and none is running"
        f" in {100 * row['idle_share']:.0f} % of the time.",
        "",
        "| kernel | calls | ms | share |",
        "|---|---:|---:|---:|",
    ]
    for one in kernels[:LARGEST]:
        name = one["name"].replace("|", "/").replace("`", "'")
        shown = name if len(name) <= _NAME else f"{name[:_NAME]}..."
        lines.append(
            f"| `{shown}` | {one['calls']} | {one['total_ms']:.3f} | {100 * one['share']:.1f} % |"
        )
    left = kernels[LARGEST:]
    if left:
        lines.append(
            f"| {len(left)} others | {sum(one['calls'] for one in left)}"
            f" | {sum(one['total_ms'] for one in left):.3f}"
            f" | {100 * sum(one['share'] for one in left):.1f} % |"
        )
    return "\n".join([title, "", *lines])
