"""A forked child can end, and can segment; a pickled segmenter loads its model again."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pnp_ovss.engine import ExecutionError, ModelError, Segmenter, Settings
from pnp_ovss.engine.fork import LIBRARIES, Gate, Lock
from tests.conftest import SAMPLES

BACKENDS = ["onnxruntime", "openvino"]
IMAGE = str(SAMPLES / "beach.jpg")
NAMES = ["turtle", "umbrella"]
FAST = Settings(passes=2, drop_mode="attention")
LATEST = 20  # seconds: what waits for a thread that is not there waits for ever

PARENT = f"""
import os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pnp_ovss.engine import Segmenter, Settings
FAST = Settings(passes=2, drop_mode="attention", crf=sys.argv[2] or None)
def labels(segmenter):
    return segmenter.segment({IMAGE!r}, {NAMES!r}, settings=FAST).labels
segmenter = Segmenter.load(backend=sys.argv[1])
with ThreadPoolExecutor(4) as pool:  # other threads have used it, and have gone
    want = list(pool.map(labels, [segmenter] * 4))[0]
def ended(child, status=7):
    began = time.monotonic()
    while time.monotonic() - began < {LATEST}:
        pid, how = os.waitpid(child, os.WNOHANG)
        if pid:
            assert os.waitstatus_to_exitcode(how) == status, how
            return
        time.sleep(0.01)
    os.kill(child, 9)
    raise SystemExit("the child hangs")
"""


def run(code: str, backend: str, crf: str = "densecrf") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        # Python 3.12 and later warn of any fork beside threads.
        [sys.executable, "-W", "ignore:This process", "-c", PARENT + code, backend, crf],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return request.param


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("pass", id="exit"),
        pytest.param("segmenter.close()", id="close"),
        pytest.param("del segmenter", id="del"),
        pytest.param("assert (labels(segmenter) == want).all()", id="use"),
        pytest.param(
            "assert (labels(segmenter) == want).all(); segmenter.close()",
            id="use and close",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "import gc; segmenter = None; gc.collect()", id="collect", marks=pytest.mark.slow
        ),
        pytest.param(
            "child = os.fork(); child and ended(child)", id="fork again", marks=pytest.mark.slow
        ),
    ],
)
def test_a_child_ends(backend: str, end: str) -> None:
    code = f"""
child = os.fork()
if not child:
    {end}
    sys.exit(7)
ended(child)
assert (labels(segmenter) == want).all()
"""
    assert not run(code, backend).stderr


@pytest.mark.slow
def test_a_child_that_is_forked_in_the_middle_of_a_run(backend: str) -> None:
    """Other threads of the parent hold whatever they hold then."""
    code = """
stop = threading.Event()
def work():
    while not stop.is_set(): labels(segmenter)
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
children = []
for _ in range(4):
    time.sleep(0.05)
    child = os.fork()
    if not child:
        assert (labels(segmenter) == want).all()
        os._exit(7)
    children.append(child)
for child in children: ended(child)
stop.set()
for thread in threads: thread.join()
"""
    run(code, backend)


def test_a_stream_that_was_begun_before_the_fork_does_not_keep_a_child(backend: str) -> None:
    code = f"""
results = segmenter.stream([({IMAGE!r}, {NAMES!r})] * 9, settings=FAST, batch_size=2)
next(results)
child = os.fork()
if not child:
    sys.exit(7)
ended(child)
assert len(list(results)) == 8
"""
    run(code, backend)


def test_a_child_cannot_go_on_with_its_parents_stream() -> None:
    code = f"""
from pnp_ovss.engine import ExecutionError
results = segmenter.stream([({IMAGE!r}, {NAMES!r})] * 9, settings=FAST, batch_size=2)
next(results)
child = os.fork()
if not child:
    try: list(results)
    except ExecutionError as error: assert "before this process was forked" in error.cause
    else: raise AssertionError
    sys.exit(7)
ended(child)
assert len(list(results)) == 8
"""
    run(code, "onnxruntime")


def test_a_signal_handler_may_fork_meanwhile() -> None:
    code = """
import signal
children = []
def fork(*_):
    child = os.fork()
    if not child: os._exit(7)
    children.append(child)
    # Not earlier: Python hangs where a handler forks in the middle of its own fork, as
    # concurrent.futures holds a lock meanwhile.
    signal.setitimer(signal.ITIMER_REAL, 0.05)
signal.signal(signal.SIGALRM, fork)
signal.setitimer(signal.ITIMER_REAL, 0.01)
began = time.monotonic()
while len(children) < 4: labels(segmenter)
signal.setitimer(signal.ITIMER_REAL, 0)
assert time.monotonic() - began < 20
for child in children: ended(child)
"""
    run(code, "onnxruntime")


def test_sigterm_ends_a_child_with_its_own_handler(backend: str) -> None:
    """As a worker of a pre-forking server has one: it exits, which must not wait."""
    code = """
import signal
reader, writer = os.pipe()
child = os.fork()
if not child:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    labels(segmenter)
    os.write(writer, b"ready")
    while True: time.sleep(1)
os.read(reader, 5)
os.kill(child, 15)
ended(child)
"""
    run(code, backend)


@pytest.mark.parametrize(
    "method",
    ["spawn", *(pytest.param(one, marks=pytest.mark.slow) for one in ("fork", "forkserver"))],
)
def test_a_pool_of_processes_takes_a_segmenter(method: Any) -> None:
    """Pickled, it loads its model again where it is unpickled."""
    with Segmenter.load(threads=1) as segmenter:
        want = labels(segmenter)
        with multiprocessing.get_context(method).Pool(2) as pool:
            found = pool.map(labels, [segmenter] * 3)
    for one in found:
        np.testing.assert_array_equal(one, want)


def labels(segmenter: Segmenter) -> np.ndarray:
    return segmenter.segment(IMAGE, NAMES, settings=FAST).labels


def test_what_is_unpickled_is_as_what_was_pickled(backend: str) -> None:
    with Segmenter.load(backend=backend, threads=1) as segmenter:
        with pickle.loads(pickle.dumps(segmenter)) as again:
            assert again.placement.backend == backend
            assert (again.threads, again.device) == (1, "cpu")
            np.testing.assert_array_equal(labels(again), labels(segmenter))
        labels(segmenter)  # has its own
    with pytest.raises(ExecutionError, match="was closed"):
        pickle.dumps(segmenter)


class Mine(Segmenter):
    """One of an application."""


def test_settings_and_class_are_pickled() -> None:
    with Mine.load(backend="onnxruntime", fetch_urls=True) as segmenter:
        segmenter.settings = Settings(crf=None, threshold=0.9)
        with pickle.loads(pickle.dumps(segmenter)) as again:
            assert type(again) is Mine
            assert again.settings == segmenter.settings
            again.close()
        labels(segmenter)


def test_a_child_does_not_take_another_model(tmp_path: Path) -> None:
    """The folder was replaced since the parent loaded it: its workers must not differ."""
    from pnp_ovss.engine.model.folder import find_model

    shutil.copytree(find_model("demo"), tmp_path / "model")
    segmenter = Segmenter.load(tmp_path / "model", backend="onnxruntime")
    (tmp_path / "model").rename(tmp_path / "old")
    shutil.copytree(find_model("demo"), tmp_path / "model")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            labels(segmenter)
        except ModelError as error:
            os.write(writer, error.cause.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert "was replaced since the model was loaded" in pipe.read()
    os.waitpid(child, 0)
    segmenter.close()


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("pydensecrf"), reason="pydensecrf2 is not installed")
def test_forked_processes_have_a_pydensecrf_each() -> None:
    """Two that write into one pipe would get each other's labels, or none."""
    code = """
from pnp_ovss.engine.refine.pydensecrf_worker import PROCESSES
parents = {process.pid for process in PROCESSES._idle}
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        for _ in range(4): assert (labels(segmenter) == want).all()
        assert not parents & {process.pid for process in PROCESSES._idle}
        sys.exit(7)
    children.append(child)
for _ in range(4): assert (labels(segmenter) == want).all()
for child in children: ended(child)
assert (labels(segmenter) == want).all()
assert any(process.poll() is None for process in PROCESSES._idle)
"""
    run(code, "onnxruntime", "pydensecrf")


def test_a_lock_that_another_thread_holds_is_free_in_a_child() -> None:
    lock, held, done = Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        signal.alarm(LATEST)
        with lock:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    done.set()
    thread.join()


def test_a_fork_waits_for_threads_inside_and_lets_none_in() -> None:
    gate, inside, leave, entered = Gate(), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with gate:
            inside.set()
            leave.wait(LATEST)
            with gate:  # again, while the fork waits
                pass

    def late() -> None:
        with gate:
            entered.set()

    threads = [threading.Thread(target=work)]
    threads[0].start()
    inside.wait(LATEST)
    threading.Timer(0.05, leave.set).start()
    gate.close()
    assert leave.is_set()
    threads.append(threading.Thread(target=late))
    threads[1].start()
    assert not entered.wait(0.05)
    gate.open()
    assert entered.wait(LATEST)
    for thread in threads:
        thread.join()


def test_a_thread_that_is_inside_may_fork() -> None:
    with LIBRARIES:
        child = os.fork()
        if not child:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
