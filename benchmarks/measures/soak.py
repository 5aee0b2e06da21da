"""Soaks one process: many threads, many calls, good and bad input, and nothing may grow.

Contract: all threads share one segmenter. Jobs are drawn from a few hundred distinct ones. What
comes of each is compared with what came of it in a fresh process, where one thread ran each once.
Now and then the threads pause, and what the process holds is counted. Linux only.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pnp_ovss.engine import InputError, Segmenter

from ..harness.records import Rows, describe
from ..harness.resident import status
from ..harness.soak_inputs import write_images
from ..harness.soak_jobs import Job, jobs

MEMORY_MIB = 40.0
"""Growth of memory that is none, in MiB; `tests/thresholds.py` says where all of these come from.

The backends keep what the most calls at once have needed so far, which rises ever more slowly.
"""

UNSETTLED_MIB = 100.0
"""The same of a soak that is too short to settle."""

BLOCKS = 5000
"""Growth of the number of Python's allocated blocks that is none."""

SETTLED = 2000  # results after which memory may grow no more
_SHOWN = 5  # jobs that are named


@dataclass(frozen=True)
class Held:
    """What a process holds while its threads pause.

    Attributes:
        results: Number of results so far.
        seconds: Seconds since the first call.
        memory: Resident memory that is of no file, in MiB.
        blocks: Number of blocks of memory that Python has allocated.
        threads: Number of threads of the system.
        python_threads: Number of threads that Python knows of.
        descriptors: Number of open descriptors.
        files: Number of files in the folders for temporary files and for the cache.
    """

    results: int
    seconds: float
    memory: float
    blocks: int
    threads: int
    python_threads: int
    descriptors: int
    files: int


def measure(
    *,
    backend: str,
    count: int,
    seconds: float | None,
    threads: int,
    seed: int,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Measure one row: what was held at each pause, and whatever is wrong.

    Args:
        backend: Backend of the segmenters.
        count: Number of results to compare.
        seconds: Seconds after which it ends with fewer results; None to go on.
        threads: Number of threads that call the engine.
        seed: Seed of the jobs and of their order.
        about: Fields that the row repeats: machine and command.
        say: Function that is called with a line of text at each step.

    Raises:
        InputError: This system does not tell what a process holds.
    """
    if not Path("/proc/self/task").is_dir():
        raise InputError("this system has no /proc, which tells what a process holds", "use Linux")
    with _places() as (images, watched):
        write_images(images, np.random.default_rng(seed))
        distinct = jobs(images, seed)
        say(f"{len(distinct)} jobs in a fresh process")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            wanted = pool.submit(_in_order, images, seed, backend).result()
        wrong = [
            f"{job.name}, in a fresh process: {'; '.join(told)}"
            for job, told in zip(distinct, wanted, strict=True)
            if not job.as_wanted(told)
        ]
        with Segmenter.load("demo", backend=backend) as segmenter:
            soak = Soak(segmenter, distinct, wanted, threads=threads, seed=seed, watched=watched)
            soak.run(count, seconds, say)
            placement = str(segmenter.placement)
        left = _files(watched[:1])
        wrong += soak.wrong + [f"{left} temporary files are left"] * bool(left)
    yield {
        "placement": placement,
        "jobs": len(distinct),
        "threads": threads,
        "settled": _settled(soak.held),
        "held": [asdict(one) for one in soak.held],
        "growth_mib": growth(soak.held, "memory"),
        "growth_blocks": growth(soak.held, "blocks"),
        "wrong": wrong,
        "grown": grown(soak.held),
        **about,
    }


class Soak:
    """Threads that share a segmenter and run jobs in a random order, and what was seen of them.

    Args:
        segmenter: Segmenter that all threads call.
        distinct: Jobs to draw from.
        wanted: What must come of each job.
        threads: Number of threads.
        seed: Seed of the order.
        watched: Folders whose files are counted.
        pauses: Number of pauses, at each of which the process is looked at.

    Attributes:
        held: What the process held at each pause.
        wrong: Jobs that gave something else, and what, a line each.
    """

    def __init__(
        self,
        segmenter: Any,
        distinct: Sequence[Job],
        wanted: Sequence[Sequence[str]],
        *,
        threads: int,
        seed: int,
        watched: Sequence[Path] = (),
        pauses: int = 30,
    ) -> None:
        self.held: list[Held] = []
        self.wrong: list[str] = []
        self._segmenter = segmenter
        self._known = list(zip(distinct, wanted, strict=True))
        self._watched = watched
        self._pauses = pauses
        self._rng = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._pause = threading.Barrier(threads + 1)
        self._results = self._until = 0
        self._ends = 0.0
        self._over = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def run(self, count: int, seconds: float | None, say: Callable[[str], None]) -> None:
        """Run jobs until there are `count` results, or for so many seconds."""
        began = time.monotonic()
        for thread in self._threads:
            thread.start()
        try:
            for pause in range(1, self._pauses + 1):
                self._until = count * pause // self._pauses
                self._ends = began + (seconds * pause / self._pauses if seconds else float("inf"))
                self._pause.wait()  # they begin
                self._pause.wait()  # they have paused
                self.held.append(_held(self._results, time.monotonic() - began, self._watched))
                say(_line(self.held[-1]))
        finally:
            self._over = True
            self._pause.abort()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        with suppress(threading.BrokenBarrierError):
            while not self._over:
                self._pause.wait()
                while drawn := self._draw():
                    self._compare(*drawn)
                self._pause.wait()

    def _draw(self) -> tuple[Job, Sequence[str]] | None:
        """Draw a job, and count its results; None where it is time to pause."""
        with self._lock:
            if self._results >= self._until or time.monotonic() >= self._ends:
                return None
            job, wanted = self._known[self._rng.integers(len(self._known))]
            self._results += len(job.fails)
            return job, wanted

    def _compare(self, job: Job, wanted: Sequence[str]) -> None:
        told = job.told(self._segmenter, len(self._threads))
        if told != list(wanted):
            with self._lock:
                self.wrong.append(f"{job.name}: {'; '.join(told)}; wanted: {'; '.join(wanted)}")


def growth(held: Sequence[Held], name: str) -> float:
    """Calculate by how much memory or blocks grow from the second fifth of the pauses on.

    It is the larger of two: the median of the last fifth over that of the second, and the median
    slope between two pauses, over all results. So it misses neither a leak that begins late nor one
    that is slow, and a single pause with more counts for little.

    Args:
        held: What was held at each pause.
        name: Field of `Held`.
    """
    after = held[len(held) // 5 :]
    fifth = len(held) - len(held) * 4 // 5
    values = np.array([getattr(one, name) for one in after], float)
    results = np.array([one.results for one in after])
    first, second = np.triu_indices(len(after), 1)
    gaps = np.maximum(results[second] - results[first], 1)
    slope = np.median((values[second] - values[first]) / gaps)
    risen = np.median(values[-fifth:]) - np.median(values[:fifth])
    return float(max(risen, slope * (results[-1] - results[0])))


def grown(held: Sequence[Held]) -> list[str]:
    """Name what grew once the process had settled, a line each; nothing is as it should be."""
    complaints = []
    limit = MEMORY_MIB if _settled(held) >= SETTLED else UNSETTLED_MIB
    if (mib := growth(held, "memory")) > limit:
        complaints.append(f"memory grew by {mib:.1f} MiB; up to {limit:.0f} are none")
    if (blocks := growth(held, "blocks")) > BLOCKS:
        complaints.append(f"Python's memory grew by {blocks:.0f} blocks; up to {BLOCKS} are none")
    after = [one for one in held if one.results >= _settled(held)]
    for name in ("threads", "python_threads", "descriptors", "files"):
        values = [getattr(one, name) for one in after]
        if len(set(values)) > 1:
            words = name.replace("_", " ").replace("python", "Python")
            complaints.append(f"the {words} are not constant: {min(values)} to {max(values)}")
    return complaints


def _settled(held: Sequence[Held]) -> int:
    """Return the results after which nothing may grow: `SETTLED`, or a fifth of a short soak's."""
    return min(SETTLED, held[len(held) // 5].results)


def _in_order(images: Path, seed: int, backend: str) -> list[list[str]]:
    """Run each job once, on one thread; tell what came of each."""
    with Segmenter.load("demo", backend=backend) as segmenter:
        return [job.told(segmenter, 1) for job in jobs(images, seed)]


@contextmanager
def _places() -> Iterator[tuple[Path, list[Path]]]:
    """Give this process folders of its own: for images, and for temporary files and the cache."""
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder, name) for name in ("TMPDIR", "XDG_CACHE_HOME", "images")}
        for place in places.values():
            place.mkdir()
        images = places.pop("images")
        before = {name: os.environ.get(name) for name in places}
        os.environ.update({name: str(place) for name, place in places.items()})
        tempfile.tempdir = None
        try:
            yield images, list(places.values())
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value
            tempfile.tempdir = None


def _held(results: int, seconds: float, watched: Sequence[Path]) -> Held:
    gc.collect()
    with suppress(AttributeError):  # of a C library other than GNU's
        ctypes.CDLL(None).malloc_trim(0)
    return Held(
        results,
        seconds,
        status("RssAnon") / 2**20,
        sys.getallocatedblocks(),
        _threads(),
        threading.active_count(),
        len(os.listdir("/proc/self/fd")),
        _files(watched),
    )


def _threads() -> int:
    """Count the system's threads; one that was joined may take a moment to go."""
    counts = []
    for _ in range(5):
        counts.append(len(os.listdir("/proc/self/task")))
        time.sleep(0.01)
    return min(counts)


def _files(folders: Sequence[Path]) -> int:
    return sum(path.is_file() for folder in folders for path in folder.rglob("*"))


def _line(held: Held) -> str:
    return (
        f"{held.results} results, {held.memory:.1f} MiB, {held.blocks} blocks,"
        f" {held.threads} threads, {held.descriptors} descriptors, {held.files} files"
    )


def table(rows: Rows) -> str:
    """Write the rows as Markdown."""
    lines = [
        "| | results | seconds | memory, MiB | grew by, MiB | threads | descriptors | files"
        " | wrong |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        after = [one for one in row["held"] if one["results"] >= row["settled"]]
        last = after[-1]
        cells = [
            f"{row['placement']}, {row['threads']} threads",
            str(last["results"]),
            f"{last['seconds']:.0f}",
            _range([one["memory"] for one in after]),
            f"{row['growth_mib']:.1f}",
            *(_range([one[name] for one in after]) for name in ("threads", "descriptors", "files")),
            str(len(row["wrong"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    commands = "\n".join(dict.fromkeys(f"`{row['command']}`" for row in rows))
    return "\n\n".join([describe(rows[0]["machine"]), commands, "\n".join(lines)])


def complaints(row: Mapping[str, Any]) -> list[str]:
    """List what is wrong with a row, a line each; of jobs no more than a few."""
    more = len(row["wrong"]) - _SHOWN
    return [*row["wrong"][:_SHOWN], *[f"and {more} more"] * (more > 0), *row["grown"]]


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"
