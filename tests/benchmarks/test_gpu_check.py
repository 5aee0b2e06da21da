"""The script that measures a GPU machine: what it does where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.sh"


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
    done = check("--output", tmp_path)
    assert done.returncode == 2
    assert "missing: cupy" in done.stderr or "PyTorch finds no GPU" in done.stderr


def test_an_unknown_option_is_refused():
    done = check("--fast")
    assert (done.returncode, "unknown option --fast" in done.stderr) == (2, True)


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An interpreter as on a GPU machine: without this package, and without some backends."""
    here = Path(numpy.__file__).parents[1]
    there = tmp_path / "site"
    there.mkdir()
    absent = ("pnp_ovss", "__editable__", "openvino", "tensorrt", "nvidia", "cupy", "distutils")
    for path in here.iterdir():
        if not path.name.startswith(absent) and path.suffix != ".pth":
            (there / path.name).symlink_to(path)
    python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    return {"PYTHON": str(python), "PYTHONPATH": str(there)}


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


@pytest.mark.slow
def test_on_the_cpu_it_measures_and_names_what_it_skipped(tmp_path: Path, bare: dict[str, str]):
    """From a folder of sources, where nothing says that the package is installed."""
    apart = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build", "dist", "results")
    sources = shutil.copytree(SCRIPT.parents[1], tmp_path / "sources", symlinks=True, ignore=apart)
    script = Path(sources) / "benchmarks" / "gpu_check.sh"
    options = ["--cpu", "--minutes", "7.5", "--output", tmp_path]
    done = check(*options, script=script, **bare)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "passes.jsonl").read_text().splitlines()]
    timed = {row["contender"]: row for row in rows if "median_s" in row}
    assert timed.keys() == {"eager-fp32", "eager-fp16", "onnxruntime-fp32"}
    assert timed["onnxruntime-fp32"]["salience_error"] < 1e-4
    assert timed["eager-fp16"]["salience_error"] > 1e-4
    assert "the tests marked gpu: there is no GPU" in (tmp_path / "skipped.txt").read_text()
    assert "precision of float32 products highest" in (tmp_path / "machine.txt").read_text()
    assert (tmp_path / "passes.png").stat().st_size > 1000
