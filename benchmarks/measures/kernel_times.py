"""Times each kernel that the engine runs on a device, for one image and for a batch.

Timing contract: from the image file to labels in memory, CRF included, the model loaded and warm.
Wall time is measured without the profiler. The kernels are those of one more run under PyTorch's
profiler. On a GPU it uses CUPTI, which sees the kernels of all libraries and of replayed graphs. On
the CPU it sees only PyTorch's operators, and most backends run none.
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

IMAGES = 16  # in the batch
WARM_UP = 3
LARGEST = 30  # kernels in a table
_NAME = 110  # characters of a kernel's name in a table


class Kernel(NamedTuple):
    """Stores the time of a kernel in a run.

    Attributes:
        name: Name of the kernel.
        calls: Number of calls.
        seconds: Time of all calls, in seconds.
    """

    name: str
    calls: int
    seconds: float


class KernelProfile(NamedTuple):
    """Stores the kernels of a run.

    Attributes:
        kernels: Kernels, the longest first.
        busy_s: Time in which at least one kernel was running, in seconds.
    """

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
    """Measure one image and a batch: for each a row of the whole run, then a row for each kernel.

    Args:
        model: Model to load.
        task: Task of the contender.
        name: Name of the contender, of `registry.ENGINE_SEGMENTERS`.
        rounds: Minimum number of timed runs; see `harness.timing`.
        about: Fields that the rows of whole runs repeat: case, model, machine and command.
        say: Function that is called with a line of text at each step.
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
                profiled = profile_kernels(run, model.device)
                device_s = sum(kernel.seconds for kernel in profiled.kernels)
                yield {
                    "what": what,
                    "contender": name,
                    "median_s": middle,
                    "p05_s": low,
                    "p95_s": high,
                    "rounds": len(seconds),
                    "device_s": device_s,
                    "idle_share": max(0.0, 1 - profiled.busy_s / middle),
                    "read_back": segmenter.read_back(),
                    **about,
                }
                for kernel in profiled.kernels:
                    yield {
                        "what": what,
                        "device": model.device,
                        "name": kernel.name,
                        "calls": kernel.calls,
                        "total_ms": 1000 * kernel.seconds,
                        "share": kernel.seconds / device_s if device_s else 0.0,
                    }
    except SkippedError as error:
        yield Skipped(name, model.device, str(error), failed=error.failed)


def _runs(segmenter: TimedSegmenter, task: Task) -> dict[str, Callable[[], object]]:
    return {
        "one image": partial(segmenter.segment, task),
        f"{IMAGES} images in a batch": partial(segmenter.stream, task, IMAGES, IMAGES),
    }


def profile_kernels(run: Callable[[], object], device: str) -> KernelProfile:
    """Profile the kernels of a run.

    Args:
        run: Function that runs the contender and waits for the device.
        device: Device, "cpu" or "cuda:N".
    """
    on_gpu = device != "cpu"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    events: list[Any] = []
    for _ in range(2):  # CUPTI misses kernels while it starts: the first run does not count
        if on_gpu:
            torch.cuda.synchronize(device)
        with profile(activities=[activity]) as profiler:
            run()
            if on_gpu:
                torch.cuda.synchronize(device)
        recorded: Iterable[Any] = profiler.events() or []
        events = [event for event in recorded if event.device_type.name == activity.name]
    calls: dict[str, int] = defaultdict(int)
    micros: dict[str, float] = defaultdict(float)
    for event in events:
        calls[event.name] += 1
        # The span of a CPU operator includes the operators that it calls; a kernel calls none.
        elapsed = event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total
        micros[event.name] += elapsed
    kernels = [Kernel(name, calls[name], 1e-6 * elapsed) for name, elapsed in micros.items()]
    kernels.sort(key=lambda kernel: -kernel.seconds)
    spans = [(event.time_range.start, event.time_range.end) for event in events]
    return KernelProfile(kernels, 1e-6 * covered(spans))


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Measure the length of the union of spans, each from a start to an end."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def table(rows: Rows) -> str:
    """Write the longest kernels as Markdown, a table for each device, one image and the batch."""
    parts: list[str] = []
    for row in rows:
        if "skipped" in row:
            parts.append(f"Not timed on {row['device']}: {row['contender']}: {row['skipped']}")
        elif "median_s" in row:
            device = row["case"]["device"]
            kernels = [
                kernel
                for kernel in rows
                if "total_ms" in kernel
                and (kernel["device"], kernel["what"]) == (device, row["what"])
            ]
            parts.append(_of_run(row, kernels))
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
    for kernel in kernels[:LARGEST]:
        name = kernel["name"].replace("|", "/").replace("`", "'")
        shown = name if len(name) <= _NAME else f"{name[:_NAME]}..."
        lines.append(
            f"| `{shown}` | {kernel['calls']} | {kernel['total_ms']:.3f}"
            f" | {100 * kernel['share']:.1f} % |"
        )
    others = kernels[LARGEST:]
    if others:
        lines.append(
            f"| {len(others)} others | {sum(kernel['calls'] for kernel in others)}"
            f" | {sum(kernel['total_ms'] for kernel in others):.3f}"
            f" | {100 * sum(kernel['share'] for kernel in others):.1f} % |"
        )
    return "\n".join([title, "", *lines])
