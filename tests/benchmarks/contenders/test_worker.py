"""Segmenters in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.contenders.base import Task
from benchmarks.contenders.worker import Worker
from benchmarks.harness.prepared import PreparedModel
from pnp_ovss.engine.errors import ExecutionError
from tests.conftest import SAMPLES, Exported

TASK = Task(SAMPLES / "beach.jpg", ("person", "boat", "umbrella"), passes=3)


@pytest.fixture
def model(exported: Exported) -> PreparedModel:
    return PreparedModel(str(exported.checkpoint), exported.folder, "cpu")


def test_a_process_that_dies_is_told_of(model: PreparedModel) -> None:
    with Worker("onnxruntime-fp32", model) as worker:
        worker.load(TASK)
        with pytest.raises(ExecutionError, match="the process of onnxruntime-fp32 died"):
            worker._do(os.abort)


def is_running(process: str) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    """Even if that is killed."""
    code = """
import os
from pathlib import Path
from benchmarks.contenders.worker import Worker
from benchmarks.harness.prepared import PreparedModel
if __name__ == "__main__":
    worker = Worker("lean", PreparedModel("", Path(), "cpu"))
    print(worker._do(os.getpid), flush=True)
    input()
"""
    (tmp_path / "parent.py").write_text(code)
    words = [sys.executable, str(tmp_path / "parent.py")]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, **pipes, env=environment, text=True) as parent:
        assert parent.stdout
        child = parent.stdout.readline().strip()
        assert is_running(child)
        parent.kill()
    until = time.monotonic() + 20
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(child)


def test_streams_give_seconds(model: PreparedModel) -> None:
    with Worker("onnxruntime-fp32", model) as worker:
        worker.load(TASK)
        assert 0 < worker.stream(TASK, 2, 2) < 60
        assert np.isfinite(worker.maps(TASK)).all()
