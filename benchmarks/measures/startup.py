"""Times a process from its start to its first labels, and measures its memory.

Timing contract: the clock starts before the process does, and stops when the process prints that it
is done. In a cold start none of the model's files is in the page cache, as after a restart; Python
and its libraries are. Shared memory is measured while a second process runs the same model.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..contenders.base import Task
from ..harness.prepared import PreparedModel
from ..harness.records import Rows
from ..harness.tables import heading

HELP = "from pnp_ovss.engine.cli import main; main(['--help'])"
IMPORT = "from pnp_ovss.engine import Segmenter"
_SHORT = {"pnp-ovss --help": HELP, IMPORT: IMPORT}
_FIRST_IMAGE = """
import json, sys
from pnp_ovss.engine import PnpOvssError, Segmenter
options = json.loads(sys.argv[1])
image, classes = options.pop("image"), options.pop("classes")
try:
    segmenter = Segmenter.load(**options, verify=False)
    segmenter.segment(image, classes)
except PnpOvssError as error:
    print(" ".join(str(error).split()), flush=True)
else:
    print("done", flush=True)
sys.stdin.read()
"""


def measure(
    model: PreparedModel,
    task: Task,
    names: Sequence[str],
    *,
    rounds: int,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Measure a row for the command line, the import, and the first image on each backend.

    Args:
        model: Model that the processes load.
        task: Task of the processes.
        names: Names of contenders, of `registry.ENGINE_SEGMENTERS`.
        rounds: Number of warm processes of each row.
        about: Fields that every row repeats: case, model, machine and command.
        say: Function that is called with a line of text at each step.
    """
    for what, code in _SHORT.items():
        say(what)
        seconds = [seconds_of(code) for _ in range(rounds)]
        yield {"what": what, "warm_s": float(np.median(seconds)), **about}
    for name in names:
        what = f"first image, {name}"
        say(what)
        backend, _, precision = name.rpartition("-")
        options = {
            "model": str(model.folder),
            "backend": backend,
            "precision": precision,
            "device": model.device,
            "image": str(task.image),
            "classes": list(task.classes),
        }
        yield {"what": what, **_first_image(model.folder, options, rounds), **about}


def seconds_of(code: str) -> float:
    """Time a Python process from its start to its end, in seconds.

    Args:
        code: Program in Python.

    Raises:
        subprocess.CalledProcessError: The program failed.
    """
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - began


def _first_image(folder: Path, options: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    forget(folder)
    with _process(options) as (_, answer, cold):
        if answer != "done":
            return {"skipped": answer}
    warm = []
    for _ in range(rounds):
        with _process(options) as (_, _, seconds):
            warm.append(seconds)
    with _process(options) as (process, _, _), _process(options):
        memory = _memory(process.pid)
    return {"cold_s": cold, "warm_s": float(np.median(warm)), **memory}


@contextmanager
def _process(options: Mapping[str, Any]) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """Run a process up to its first labels: the process, the line it printed, its seconds."""
    began = time.perf_counter()
    words = [sys.executable, "-c", _FIRST_IMAGE, json.dumps(options)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        answer = process.stdout.readline().strip()
        yield process, answer, time.perf_counter() - began
        process.communicate()


def forget(folder: Path) -> None:
    """Drop the files of a folder from the page cache, where the system allows it."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memory(process: int) -> dict[str, float]:
    """Measure the resident memory of a process, and its part shared with others, in MiB."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:  # not on Linux
        return {}
    fields = (line.split() for line in text.splitlines()[1:])
    kib = {words[0].rstrip(":"): int(words[1]) for words in fields}
    shared = kib["Shared_Clean"] + kib["Shared_Dirty"]
    return {"resident_mib": kib["Rss"] / 1024, "shared_mib": shared / 1024}


def table(rows: Rows) -> str:
    """Write the rows as Markdown."""
    lines = [
        "| | cold, s | warm, s | resident, MiB | shared with a second process, MiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        if "skipped" in row:
            continue
        cells = [
            f"{row[name]:{style}}" if name in row else "-"
            for name, style in (
                ("cold_s", ".2f"),
                ("warm_s", ".2f"),
                ("resident_mib", ".0f"),
                ("shared_mib", ".0f"),
            )
        ]
        lines.append(f"| {row['what']} | " + " | ".join(cells) + " |")
    return "\n\n".join([heading(rows[0]), "\n".join(lines)])
