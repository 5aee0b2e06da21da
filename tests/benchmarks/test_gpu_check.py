"""The script that measures a GPU machine: what it does where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.sh"
MOST_BYTES = 40 * 2**20  # of the sources and the wheels: what can be sent to such a machine

# What an interpreter on a GPU machine need not have.
ABSENT = ("pnp_ovss", "__editable__", "openvino", "tensorrt", "nvidia", "cupy", "distutils")


def check(
    *options: object, script: Path = SCRIPT, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in (script, *options)],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_gpu_it_says_what_is_missing(tmp_path: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = check("--output", tmp_path / "out", "--work", tmp_path / "work")
    assert done.returncode == 2
    assert (
        " lacks the modules: cupy; install" in done.stderr or "PyTorch finds no GPU" in done.stderr
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fast"], "unknown option --fast"),
        (["--minutes", "soon"], "--minutes soon is not a number"),
        (["--wheels", "/nowhere"], "--wheels /nowhere is not a folder"),
        (["--output"], "--output needs a value"),
    ],
)
def test_bad_usage_is_refused(words: list[str], said: str):
    done = check(*words)
    assert (done.returncode, said in done.stderr) == (2, True)


def test_an_interpreter_that_is_not_there_is_named():
    done = check(PYTHON="/nowhere/python")
    assert (done.returncode, "/nowhere/python cannot be run" in done.stderr) == (2, True)


def test_it_prints_its_help():
    done = check("--help")
    assert done.returncode == 0
    assert "--minutes N" in done.stdout
    assert "Exit codes" in done.stdout
    assert "pipefail" not in done.stdout


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An interpreter as on a GPU machine: without this package, and without some backends.

    That of the environment variable GPU_CHECK_PYTHON, if there is one.
    """
    if named := os.environ.get("GPU_CHECK_PYTHON"):
        return {"PYTHON": named, "PYTHONPATH": os.environ.get("GPU_CHECK_PATH", "")}
    here = Path(numpy.__file__).parents[1]
    there = tmp_path / "site-packages"  # a name by which hypothesis knows them
    there.mkdir()
    for path in here.iterdir():
        if not path.name.startswith(ABSENT) and path.suffix != ".pth":
            (there / path.name).symlink_to(path)
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    return {"PYTHON": str(python), "PYTHONPATH": str(there)}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of what a clone has, where nothing says that the package is installed."""
    root = SCRIPT.parents[1]
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, names.split("\0")):
        if (root / name).exists() or (root / name).is_symlink():
            target = tmp_path / "sources" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target, follow_symlinks=False)
    return tmp_path / "sources"


def test_the_sources_can_be_sent(sources: Path):
    """With the wheels of what is missing there, which are 1 MB."""
    files = [path for path in sources.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES - 2**20


@pytest.mark.slow
def test_the_tests_of_gpus_are_found_without_other_backends(bare: dict[str, str]):
    root = SCRIPT.parents[1]
    words = [bare["PYTHON"], "-m", "pytest", "-m", "gpu", "--collect-only", "-q"]
    path = os.pathsep.join([bare["PYTHONPATH"], str(root / ".pyright"), str(root)])
    done = subprocess.run(
        words, cwd=root, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "test_cuda_computes_what_the_cpu_does" in done.stdout


def measured(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {(row["contender"], row["batch"]): row for row in rows if "median_s" in row}


@pytest.mark.slow
@pytest.mark.timing
def test_when_the_time_is_up_it_stops_and_the_next_run_does_the_rest(
    tmp_path: Path, bare: dict[str, str], sources: Path
):
    script = sources / "benchmarks" / "gpu_check.sh"
    out, done = tmp_path / "out", tmp_path / "work" / "done-cpu"
    done.mkdir(parents=True)
    for name in ("96", "demo"):  # what takes minutes
        for graph in ("vision", "salience"):
            (done / f"packages-{name}-{graph}").touch()
    options = ["--cpu", "--no-768", "--output", out, "--work", tmp_path / "work"]
    options += ["--pack", tmp_path / "all.tgz"]
    first = check(*options, "--minutes", "1", script=script, **bare)
    assert first.returncode == 1
    assert "export-96: exit code 0" in first.stdout
    assert "kernels: skipped, the time is up" in first.stdout
    assert "not done: passes-96\n" in first.stdout
    assert "not done: export-96\n" not in first.stdout
    assert "float32 products highest" in (out / "machine.txt").read_text()
    timed = measured(next((out / "passes-96").glob("passes.jsonl*")))
    assert {("eager-fp32", 1), ("eager-fp32", 2)} <= timed.keys()
    with tarfile.open(tmp_path / "all.tgz") as packed:
        assert "./stages.txt" in packed.getnames()
        assert any(name.startswith("./passes-96/passes.jsonl") for name in packed.getnames())
    again = check(*options, "--minutes", "0.5", script=script, **bare)
    assert again.returncode == 1
    assert "export-96: exit code" not in again.stdout
    assert "passes-96: exit code" in again.stdout


@pytest.mark.long
def test_on_the_cpu_every_stage_measures(tmp_path: Path, bare: dict[str, str], sources: Path):
    script, out = sources / "benchmarks" / "gpu_check.sh", tmp_path / "out"
    options = ["--cpu", "--minutes", "80", "--output", out, "--work", tmp_path / "work"]
    done = check(*options, script=script, **bare)
    assert done.returncode == 0, done.stdout + done.stderr
    for stage, contenders in {
        "passes-96": {"eager-fp32", "eager-bf16", "aotinductor-bf16"},
        "passes-96-compiled": {"eager-fp32", "eager-bf16", "compile-bf16"},
        "passes-96-fp16": {"eager-fp32", "eager-fp16", "aotinductor-fp16"},
        "passes-128": {"eager-fp32", "eager-bf16", "aotinductor-bf16"},
    }.items():
        timed = measured(out / stage / "passes.jsonl")
        assert {name for name, _ in timed} == contenders
        assert {batch for _, batch in timed} == {1, 2}
        assert (out / stage / "passes.png").stat().st_size > 1000
    for stage in ("agreement", "end-to-end", "kernel-times", "kernels"):
        assert len((out / stage / f"{stage}.jsonl").read_text().splitlines()) > 1
        assert (out / stage / f"{stage}.md").stat().st_size > 100
    assert " 0.000 % " in (out / "agreement" / "agreement.md").read_text()
    again = check(*options, script=script, **bare)
    assert again.returncode == 0
    assert "exit code" not in again.stdout
