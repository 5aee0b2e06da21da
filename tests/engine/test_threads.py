"""`threads` bounds what a model, its workers and the CRF use at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pnp_ovss.engine import BackendError, InputError, Segmenter
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.runners import aotinductor
from tests import thresholds

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="the system does not list threads"
)

BUSY = """
import os, sys
import numpy as np
from pnp_ovss.engine import Segmenter, Settings
backend, threads, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
segmenter = Segmenter.load(backend=backend, threads=threads)
requests = [segmenter.prepare(image, ["turtle", "umbrella"]) for _ in range(8)]
located = segmenter.locate(requests)
def spent():
    tasks = os.listdir("/proc/self/task")
    return {one: int(open(f"/proc/self/task/{one}/schedstat").read().split()[0]) for one in tasks}
def work():
    if what == "model":
        segmenter.locate(requests)
    else:
        segmenter.refine(image, located[0], Settings(crf="densecrf"))
before = spent()
work()
after = spent()
print(*[after[one] - before.get(one, 0) for one in after])
"""


def shares(*words: str) -> list[float]:
    """The share of the work that each thread did, the largest first."""
    done = subprocess.run(
        [sys.executable, "-c", BUSY, *words], capture_output=True, text=True, check=True
    )
    spent = sorted(map(int, done.stdout.split()), reverse=True)
    return [one / sum(spent) for one in spent]


@pytest.mark.parametrize(
    ("backend", "what"), [("onnxruntime", "model"), ("openvino", "model"), ("onnxruntime", "crf")]
)
def test_one_thread_does_the_work_where_one_is_allowed(backend: str, what: str) -> None:
    pytest.importorskip(backend)
    assert shares(backend, "1", what)[0] > thresholds.SHARE_OF_ONE_THREAD


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one processor")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_two_do_it_where_two_are_allowed(backend: str) -> None:
    pytest.importorskip(backend)
    assert shares(backend, "2", "model")[0] < thresholds.SHARE_OF_ONE_THREAD


@pytest.mark.parametrize("threads", [0, -1, 2.5, True, "2"])
def test_what_is_no_number_of_threads_is_refused(threads: object) -> None:
    with pytest.raises(InputError, match="threads is"):
        Segmenter.load(threads=threads)  # type: ignore[arg-type]


def test_pytorch_has_one_number_of_threads_for_the_process() -> None:
    class Torch:
        @staticmethod
        def get_num_threads() -> int:
            return 4

    aotinductor._require_threads(Torch, CPU, 4)
    aotinductor._require_threads(Torch, CPU, None)
    with pytest.raises(BackendError, match="PyTorch uses 4 threads, and 2") as caught:
        aotinductor._require_threads(Torch, CPU, 2)
    assert "OMP_NUM_THREADS=2" in caught.value.cure
