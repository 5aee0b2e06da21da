"""Times libpnp_ovss against the Python engine on the same ONNX Runtime, on the CPU.

Timing contract: `latency` is from pixels in memory to labels, one image at a time, one thread.
`throughput` is of a list of images in memory, with two threads: one call of the library's batch,
and `Segmenter.stream` read to its end. `start` is a process from its start to its end, which reads
an image, segments it, and writes labels and overlay. It is the library's example `segment_image`,
or `pnp-ovss segment`, with the backend that it takes by itself or with ONNX Runtime. Contenders
take turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pnp_ovss.engine import Segmenter, Settings
from pnp_ovss.engine.model.folder import open_model

from ..contenders.c_library import CSettings, Library, Model, runtime_of_python
from ..harness.records import Rows, describe
from ..harness.timing import interleaved
from .refinement import medians, milliseconds, sample, table_of

SIZE = (640, 480)
CLASSES = ("sailing boat", "umbrella", "turtle")
THREADS, IMAGES = 2, 16  # of the throughput
STAGES = ("preprocess", "graphs", "passes", "refine", "crf")


def measure(
    build: Path, rounds: int, about: Mapping[str, Any], say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Measure a row for each latency, throughput and start.

    Args:
        build: Folder in which CMake built the library and its examples.
        rounds: Minimum number of rounds; see `harness.timing`.
        about: Fields that every row repeats: machine and command.
        say: Function that is called with a line of text at each step.
    """
    library = Library(build / "libpnp_ovss.so", runtime_of_python())
    for crf in (None, "densecrf"):
        say(f"latency, CRF {crf or 'none'}")
        yield {"what": "latency", "crf": crf, **_latency(library, crf, rounds), **about}
    for crf in (None, "densecrf"):
        say(f"throughput, CRF {crf or 'none'}")
        yield {"what": "throughput", "crf": crf, **_throughput(library, crf, rounds), **about}
    for backend in ("auto", "onnxruntime"):
        say(f"start, against --backend {backend}")
        row = {"what": "start", "crf": None, "backend": backend}
        yield {**row, **_start(build, backend, rounds), **about}


def _settings(segmenter: Segmenter, crf: Any) -> tuple[Settings, CSettings]:
    settings = replace(segmenter.settings, crf=crf)
    return settings, CSettings.of(settings)


def _latency(library: Library, crf: Any, rounds: int) -> dict[str, Any]:
    image = np.array(sample(SIZE))
    stages: list[list[float]] = []
    segmenter = Segmenter.load("demo", backend="onnxruntime", device="cpu", threads=1)
    with segmenter, Model(library, segmenter.model.path, threads=1) as model:
        settings, given = _settings(segmenter, crf)

        def ours() -> None:
            began = time.perf_counter()
            found = model.segment(image, CLASSES, given)
            seconds = time.perf_counter() - began
            took = [getattr(found.timings, stage) for stage in STAGES]
            stages.append([*took, seconds - sum(took)])

        contenders = {
            "python_s": lambda: segmenter.segment(image, CLASSES, settings=settings),
            "ours_s": ours,
        }
        seconds = interleaved(contenders, rounds)
    split = dict(zip((*STAGES, "rest"), np.median(stages, axis=0).tolist(), strict=True))
    own = sum(seconds for stage, seconds in split.items() if stage not in ("graphs", "crf"))
    return {"stages_s": split, "own_s": own, **medians(seconds, "python_s")}


def _throughput(library: Library, crf: Any, rounds: int) -> dict[str, Any]:
    image = np.array(sample(SIZE))
    pairs = [(image, CLASSES)] * IMAGES
    segmenter = Segmenter.load("demo", backend="onnxruntime", device="cpu", threads=THREADS)
    with segmenter, Model(library, segmenter.model.path, threads=THREADS) as model:
        settings, given = _settings(segmenter, crf)
        contenders = {
            "python_s": lambda: list(segmenter.stream(pairs, settings=settings)),
            "ours_s": lambda: model.segment_batch(pairs, given),
        }
        seconds = interleaved(contenders, rounds)
    return {"images": IMAGES, "threads": THREADS, **medians(seconds, "python_s")}


def _start(build: Path, backend: str, rounds: int) -> dict[str, Any]:
    model = str(open_model("demo").path)
    with tempfile.TemporaryDirectory() as folder:
        image = str(Path(folder) / "image.png")
        sample(SIZE).save(image)
        names, out = ",".join(CLASSES), str(Path(folder) / "out")
        python = [str(Path(sys.executable).with_name("pnp-ovss")), "segment", image]
        python += ["--classes", names, "--backend", backend, "--crf", "none", "-o", out]
        ours = [str(build / "segment_image"), model, image, names, "--crf", "none", "-o", out]
        commands = {"python": python, "ours": ours}
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, command in commands.items():
                run = _process(command)
                if number:  # the first one warms up
                    runs[name].append(run)
    seconds = {f"{name}_s": np.array(of)[:, 0] for name, of in runs.items()}
    peaks = {f"{name}_peak_mb": float(np.median(np.array(of)[:, 1])) for name, of in runs.items()}
    return {**medians(seconds, "python_s"), **peaks}


# A process begins with the peak of the one that it was forked from, so a small one starts it.
_LAUNCHER = """
import os, sys, time
began = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
print(time.perf_counter() - began, used.ru_maxrss * 1024 / 1e6, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def _process(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return its seconds, and its peak of memory in MB."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, *command],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PNP_OVSS_ORT": str(runtime_of_python())},
    )
    seconds, peak = map(float, done.stderr.splitlines()[-1].split())
    return seconds, peak


def table(rows: Rows) -> str:
    """Write the rows as Markdown."""
    timed = [row for row in rows if "python_s" in row]
    split = [row for row in rows if "stages_s" in row]
    peaks = [row for row in rows if "ours_peak_mb" in row]
    return "\n\n".join(
        [
            describe(rows[0]["machine"]),
            f"`{rows[0]['command']}`",
            table_of(
                timed,
                "| demo model, 640x480, 3 classes | Python, ms | library, ms | times as fast |",
                lambda row: [
                    _what(row),
                    *(milliseconds(row, name) for name in ("python_s", "ours_s")),
                    f"{row['times_as_fast']:.2f}",
                ],
            ),
            table_of(
                split,
                f"| steps of the latency, ms | {' | '.join((*STAGES, 'rest'))} |",
                lambda row: [
                    _crf(row),
                    *(f"{1000 * value:.1f}" for value in row["stages_s"].values()),
                ],
            ),
            table_of(
                peaks,
                "| peak of memory of a process | Python, MB | library, MB |",
                lambda row: [_what(row), *(f"{row[f'{one}_peak_mb']:.0f}" for one in _BOTH)],
            ),
        ]
    )


_BOTH = ("python", "ours")


def _what(row: Mapping[str, Any]) -> str:
    images = f" of {row['images']} images, {row['threads']} threads" if "images" in row else ""
    against = f" against --backend {row['backend']}" if "backend" in row else ""
    return f"{row['what']}{images}{against}, {_crf(row)}"


def _crf(row: Mapping[str, Any]) -> str:
    return "with the CRF" if row["crf"] else "without a CRF"
