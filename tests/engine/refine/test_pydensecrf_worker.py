from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from benchmarks.harness.timing import longest_wait
from pnp_ovss.engine import BackendError
from pnp_ovss.engine.refine import pydensecrf_worker

KERNELS = {"gaussian": {"sxy": 3, "compat": 7}, "bilateral": {"sxy": 50, "srgb": 5, "compat": 10}}


def job(seed: int, labels: int = 3, height: int = 40, width: int = 60):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.random((labels, height, width), np.float32) + 0.1, 10, KERNELS


@pytest.fixture
def processes():
    pydensecrf_worker.PROCESSES.close()  # those of other tests
    own = pydensecrf_worker.Processes()
    yield own
    own.close()


def children() -> set[int]:
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())],
        capture_output=True,
        text=True,
    )
    lines = [line for line in found.stdout.splitlines() if "pydensecrf_worker" in line]
    return {int(line.split()[0]) for line in lines}


def test_each_caller_gets_its_own_result_and_processes_stay_for_the_next(processes):
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda seed: processes.infer(*job(seed)), range(9)))
    for seed, result in enumerate(results):
        np.testing.assert_array_equal(result, pydensecrf_worker.infer(*job(seed)))
    started = children()
    assert 1 <= len(started) <= 3
    processes.infer(*job(0))
    assert children() == started
    processes.close()
    assert not children() & started


@pytest.mark.timing
def test_the_gil_is_free_meanwhile(processes):
    processes.infer(*job(0))
    work = job(1, 21, 200, 300)
    began = time.perf_counter()
    wait = longest_wait(lambda: processes.infer(*work))
    took = time.perf_counter() - began
    assert wait < took / 2


def test_an_error_in_the_process_is_the_callers(processes):
    image, probabilities, iterations, kernels = job(0)
    with pytest.raises(BackendError, match="pydensecrf failed: "):
        processes.infer(image, probabilities, iterations, {"gaussian": {}, "bilateral": {}})
    assert processes.infer(image, probabilities, iterations, kernels).shape == probabilities.shape


def test_a_process_that_dies_fails_its_caller_and_nobody_after(processes):
    processes.infer(*job(0))
    (process,) = children()
    os.kill(process, signal.SIGKILL)
    with pytest.raises(BackendError, match=r"ended \(exit status -9\)"):
        processes.infer(*job(0))
    assert processes.infer(*job(1)).shape == (3, 40, 60)


def test_no_process_outlives_the_interpreter():
    program = (
        "import subprocess, sys\n"
        "sys.path.insert(0, '.')\n"
        "from tests.engine.refine.test_pydensecrf_worker import children, job, pydensecrf_worker\n"
        "pydensecrf_worker.PROCESSES.infer(*job(0))\n"
        "print(*children())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()
    for process in done.stdout.split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)
