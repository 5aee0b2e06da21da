"""From the start of a process to its first labels, and what it holds of memory then.

Timing contract: the clock starts before the process does, and stops when it says that it is done.
Cold: the system holds none of the model's files, as after a restart; but for that, of Python and
its libraries all is warm. Of memory, what is shared was seen with a second process beside it.
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
_FIRST = """
import json, sys
from pnp_ovss.engine import PnpOvssError, Segmenter
given = json.loads(sys.argv[1])
picture, classes = given.pop("picture"), given.pop("classes")
try:
    segmenter = Segmenter.load(**given, verify=False)
    segmenter.segment(picture, classes)
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
    """A row for the command line, the import, and the first picture on each backend.

    Args:
        model: that is loaded.
        task: what is segmented.
        names: of `registry.ENGINE_SEGMENTERS`.
        rounds: processes of each.
        about: fields of every row.
        say: is told of each step.
    """
    for what, code in _SHORT.items():
        say(what)
        seconds = [seconds_of(code) for _ in range(rounds)]
        yield {"what": what, "warm_s": float(np.median(seconds)), **about}
    for name in names:
        say(f"first picture, {name}")
        backend, _, precision = name.rpartition("-")
        given = {
            "model": str(model.folder),
            "backend": backend,
            "precision": precision,
            "device": model.device,
            "picture": str(task.picture),
            "classes": list(task.classes),
        }
        yield {"what": f"first picture, {name}", **_first(model.folder, given, rounds), **about}


def seconds_of(code: str) -> float:
    """Seconds of a Python process from its start to its end; it must not fail."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - began


def _first(folder: Path, given: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    forget(folder)
    with _process(given) as (_, said, cold):
        if said != "done":
            return {"skipped": said}
    warm = []
    for _ in range(rounds):
        with _process(given) as (_, _, seconds):
            warm.append(seconds)
    with _process(given) as (one, _, _), _process(given):
        memory = _memory(one.pid)
    return {"cold_s": cold, "warm_s": float(np.median(warm)), **memory}


@contextmanager
def _process(given: Mapping[str, Any]) -> Iterator[tuple[subprocess.Popen[str], str, float]]:
    """One that segmented its first picture, what it said, and its seconds until then."""
    began = time.perf_counter()
    words = [sys.executable, "-c", _FIRST, json.dumps(given)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, **pipes, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        said = process.stdout.readline().strip()
        yield process, said, time.perf_counter() - began
        process.communicate()


def forget(folder: Path) -> None:
    """Let the system drop what it holds of the files, where it can be told to."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memory(process: int) -> dict[str, float]:
    """MiB that are resident, and those of them that another process uses as well."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:  # not on Linux
        return {}
    fields = (line.split() for line in text.splitlines()[1:])
    kib = {words[0].rstrip(":"): int(words[1]) for words in fields}
    shared = kib["Shared_Clean"] + kib["Shared_Dirty"]
    return {"resident_mib": kib["Rss"] / 1024, "shared_mib": shared / 1024}


def table(rows: Rows) -> str:
    """The rows as Markdown."""
    lines = [
        "| | cold, s | warm, s | resident, MiB | of it shared with a second process, MiB |",
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
