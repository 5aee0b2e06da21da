from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.harness.soak_inputs import REFUSED, write_images
from benchmarks.harness.soak_jobs import Job, jobs, tell
from benchmarks.measures import soak
from benchmarks.measures.soak import Held, Soak
from pnp_ovss.engine import ExecutionError, InputError
from tests import thresholds


def held(
    memory: Callable[[int], float] = lambda _: 100.0, **changed: Callable[[int], int]
) -> list[Held]:
    """What a process holds at pauses with 1,000 results between them, by what grows."""
    constant = {
        "blocks": 160_000,
        "threads": 17,
        "python_threads": 9,
        "descriptors": 14,
        "files": 0,
    }
    return [
        Held(
            1000 * (index + 1),
            float(index),
            memory(index),
            **{name: changed.get(name, lambda _, n=n: n)(index) for name, n in constant.items()},
        )
        for index in range(30)
    ]


def noise(index: int) -> float:
    return 100 + np.random.default_rng(index).uniform(-1, 1) * thresholds.SOAK_MEMORY / 3


@pytest.mark.parametrize(
    "memory",
    [
        noise,
        lambda index: 100 + 500 * (index > 0),  # while it settles
        lambda index: 100 + 500 * (index == 20),  # once
        lambda index: 100 - index,
    ],
    ids=["noise", "warming up", "once", "falling"],
)
def test_memory_that_is_flat(memory: Callable[[int], float]) -> None:
    assert not soak.grown(held(memory))


@pytest.mark.parametrize(
    "memory",
    [
        lambda index: noise(index) + index * thresholds.SOAK_MEMORY / 15,
        lambda index: noise(index) + 2 * thresholds.SOAK_MEMORY * (index > 22),
    ],
    ids=["slow", "late"],
)
def test_memory_that_grows(memory: Callable[[int], float]) -> None:
    (complaint,) = soak.grown(held(memory))
    assert complaint.startswith("memory grew by ")


def test_blocks_that_python_keeps() -> None:
    each = thresholds.SOAK_BLOCKS // 15
    (complaint,) = soak.grown(held(blocks=lambda index: 160_000 + each * index))
    assert complaint.startswith("Python's memory grew by ")
    assert not soak.grown(held(blocks=lambda index: 160_000 + each // 3 * index))


@pytest.mark.parametrize("name", ["threads", "python_threads", "descriptors", "files"])
def test_what_has_to_be_constant(name: str) -> None:
    (complaint,) = soak.grown(held(**{name: lambda index: 20 + (index == 25)}))
    assert complaint.endswith("are not constant: 20 to 21")
    assert not soak.grown(held(**{name: lambda index: 20 + (index > 0)}))  # while it settles


def soaked(run: Callable[[], list[str]], wanted: str = "labels") -> Soak:
    """Soak a stand-in for the engine with two jobs, one of which is given."""
    known = [
        Job("given", (False,), lambda *_: run()),
        Job("other", (False, False), lambda *_: ["labels", "labels"]),
    ]
    made = Soak(None, known, [[wanted], ["labels", "labels"]], threads=3, seed=0, pauses=5)
    made.run(600, None, lambda _: None)
    return made


def test_a_clean_stand_in_passes() -> None:
    made = soaked(lambda: ["labels"])
    assert not made.wrong
    assert not soak.grown(made.held)
    assert 600 <= made.held[-1].results < 600 + 6
    assert made.held[-1].python_threads == threading.active_count() + 3


def test_leaks_of_a_stand_in_are_noticed() -> None:
    kept: list[Any] = []
    descriptors: list[int] = []
    end = threading.Event()

    def leak() -> list[str]:
        kept.append([np.ones(2**20 // 8), *map(str, range(1000, 1100))])
        descriptors.append(os.open(os.devnull, os.O_RDONLY))
        threading.Thread(target=end.wait, args=(30,)).start()
        return ["labels"]

    try:
        complaints = soak.grown(soaked(leak).held)
    finally:
        end.set()
        for one in descriptors:
            os.close(one)
    named = [
        "memory grew",
        "Python's memory",
        "the threads are",
        "the Python threads are",
        "the descriptors are",
    ]
    assert [one.startswith(name) for one, name in zip(complaints, named, strict=True)] == [True] * 5


def test_another_label_map_is_noticed() -> None:
    turns = iter(range(10_000))
    made = soaked(lambda: ["other labels" if next(turns) == 30 else "labels"])
    assert made.wrong == ["given: other labels; wanted: labels"]
    row = {"wrong": made.wrong * 7, "grown": ["memory grew"]}
    assert soak.complaints(row) == [*made.wrong * 5, "and 2 more", "memory grew"]


def test_what_is_told() -> None:
    labels = np.arange(6, dtype=np.uint16).reshape(2, 3)
    assert tell(labels) == tell(labels.copy())
    assert len({tell(labels), tell(labels.T), tell(labels + 1), tell(labels.reshape(3, 2))}) == 4
    good, bad = (Job("", (fails,), lambda *_: []) for fails in (False, True))
    refused = [tell(InputError("no image", "give one"))]
    assert refused == ["refused, InputError: no image"]
    assert good.as_wanted([tell(labels)])
    assert bad.as_wanted(refused)
    assert not good.as_wanted(refused)
    for error in (ExecutionError("unexpected KeyError"), TypeError("no method")):
        assert not bad.as_wanted([tell(error)])
        assert not good.as_wanted([tell(error)])
    assert not bad.as_wanted(["not refused: None"])


def test_jobs_are_the_same_each_time(tmp_path: Path) -> None:
    write_images(tmp_path, np.random.default_rng(3))
    first, again = jobs(tmp_path, 3), jobs(tmp_path, 3)
    assert [(one.name, one.fails) for one in first] == [(one.name, one.fails) for one in again]
    assert 200 <= len(first) <= 400
    assert len({one.name for one in first}) == len(first)
    assert sum(one.name.startswith("refused") for one in first) == len(REFUSED)


def of_command(tmp_path: Path, *words: str) -> dict[str, Any]:
    """Run the command; return its row."""
    file = tmp_path / "soak.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "soak", "--json", str(file), *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (line,) = file.read_bytes().splitlines()
    row = msgspec.json.decode(line)
    assert "| 0 |" in soak.table([row])
    return row


@pytest.mark.slow
def test_a_minute(tmp_path: Path) -> None:
    row = of_command(tmp_path, "--seconds", "60")
    assert row["held"][-1]["results"] > 200


@pytest.mark.long
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_all_of_it(tmp_path: Path, backend: str) -> None:
    row = of_command(tmp_path, "--backend", backend)
    assert row["held"][-1]["results"] >= 20_000
    assert row["settled"] == 2000
