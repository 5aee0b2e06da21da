"""A segmenter in a process of its own: no other's threads or memory are in its way."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from pnp_ovss.engine import tracing
from pnp_ovss.engine.errors import ExecutionError

from ..harness.prepared import PreparedModel
from ..harness.stopwatch import Stopwatch
from .base import Skipped, SkippedError, Task, TimedSegmenter, skipped_if_it_fails
from .registry import load

Result = TypeVar("Result")

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_segmenter: TimedSegmenter


@dataclass(frozen=True)
class Watched:
    """A run that was looked at, which takes longer than one that is not.

    Attributes:
        labels: what it found, [H, W].
        stages: seconds of each; what no stage claims is "other".
        peak_memory_mib: of the process, resident, meanwhile.
    """

    labels: np.ndarray
    stages: dict[str, float]
    peak_memory_mib: float


class Worker:
    """A process with a segmenter. Used as a context manager, it ends with the block.

    Args:
        name: of the segmenter, of `registry.SEGMENTERS`.
        model: that it loads.

    Attributes:
        load_s: seconds that `load` took.
    """

    load_s: float

    def __init__(self, name: str, model: PreparedModel) -> None:
        self.name = name
        self._model = model
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, spawn, initializer=_end_with_parent)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown(cancel_futures=True)

    def load(self, task: Task) -> None:
        """Load the segmenter and let it do the task once.

        Raises:
            SkippedError: it cannot be had here.
        """
        with skipped_if_it_fails():
            self.load_s = self._do(_load, self.name, self._model, task)

    def run(self, task: Task) -> float:
        """Measure the seconds from the image's file to the file of its labels."""
        return self._do(_run, task)

    def stream(self, task: Task, images: int, batch: int) -> float:
        """Measure the seconds for so many images, without writing labels."""
        return self._do(_stream, task, images, batch)

    def watch(self, task: Task) -> Watched:
        """Run the task once, watched: labels, stages and memory."""
        return self._do(_watch, task)

    def maps(self, task: Task) -> np.ndarray:
        """Make class maps, float32 [C, gh, gw]."""
        return self._do(_maps, task)

    def read_back(self) -> dict[str, Any]:
        """Facts of how it really runs: providers, dtypes, threads."""
        return self._do(_read_back)

    def _do(self, function: Callable[..., Result], *args: Any) -> Result:
        try:
            return self._pool.submit(function, *args).result()
        except BrokenProcessPool as error:
            raise ExecutionError(
                f"the process of {self.name} died: did memory run out?",
                "name fewer contenders at once: --contender",
            ) from error


@contextmanager
def loaded(
    names: Iterable[str], model: PreparedModel, task: Task, say: Callable[[str], None]
) -> Iterator[tuple[list[Worker], list[Skipped]]]:
    """Segmenters that did a task once, and those that cannot be had here.

    Args:
        names: of `registry.SEGMENTERS`.
        model: that they load.
        task: what they do.
        say: is told of each step.
    """
    workers: list[Worker] = []
    skipped: list[Skipped] = []
    with ExitStack() as stack:
        for name in names:
            say(f"loading {name}")
            worker = Worker(name, model)
            try:
                worker.load(task)
            except SkippedError as error:
                worker.close()
                skipped.append(Skipped(name, model.device, str(error), failed=error.failed))
            else:
                workers.append(stack.enter_context(worker))
        yield workers, skipped


def _end_with_parent() -> None:
    """End this process when its parent ends, however that ends.

    A model in memory that nobody knows of would be in the way of the next run.
    """
    parent = multiprocessing.parent_process()
    assert parent

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _load(name: str, model: PreparedModel, task: Task) -> float:
    global _segmenter
    began = time.perf_counter()
    _segmenter = load(name, model)
    _run(task)
    return time.perf_counter() - began


def _run(task: Task) -> float:
    began = time.perf_counter()
    _write(_segmenter.segment(task))
    return time.perf_counter() - began


def _stream(task: Task, images: int, batch: int) -> float:
    began = time.perf_counter()
    _segmenter.stream(task, images, batch)
    return time.perf_counter() - began


def _watch(task: Task) -> Watched:
    stopwatch = Stopwatch(_segmenter.synchronize)
    _forget_peak()
    began = time.perf_counter()
    with tracing.listening(stopwatch.stage):
        labels = _segmenter.segment(task)
        _write(labels)
    whole = time.perf_counter() - began
    stages = dict(stopwatch.seconds)
    return Watched(labels, stages | {"other": whole - sum(stages.values())}, _peak())


def _maps(task: Task) -> np.ndarray:
    return _segmenter.maps(task)


def _read_back() -> dict[str, Any]:
    return _segmenter.read_back()


def _write(labels: np.ndarray) -> None:
    with tracing.span("write"), tempfile.NamedTemporaryFile(suffix=".png") as file:
        Image.fromarray(labels.astype(np.uint8)).save(file)


def _forget_peak() -> None:
    """Let the peak be what is resident now, where the system can."""
    if _FORGET.exists():
        _FORGET.write_text("5")


def _peak() -> float:
    """MiB; not `getrusage`, which knows the peak of the process that started this one too."""
    if _STATUS.exists():
        (line,) = (one for one in _STATUS.read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
