"""The library leaves the process as it is: what other code relies on is never touched."""

from __future__ import annotations

import locale
import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from pnp_ovss.engine import Segmenter, Settings
from tests.conftest import SAMPLES

BACKENDS = ["onnxruntime", "openvino"]
NAMES = ["turtle", "umbrella"]
FAST = Settings(crf=None, passes=1)


def state() -> dict[str, Any]:
    return {
        "warnings": (list(warnings.filters), warnings.showwarning),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "signals": {one: signal.getsignal(one) for one in signal.valid_signals()},
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "numpy": np.geterr(),
        "folder": os.getcwd(),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "path": list(sys.path),
        "recursion": sys.getrecursionlimit(),
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_loading_and_segmenting_in_threads_leaves_the_process_as_it_is(backend: str) -> None:
    pytest.importorskip(backend)
    Segmenter.load(backend=backend).close()  # of what is imported, once
    before = state()
    paths = [SAMPLES / name for name in ("beach.jpg", "party.jpg", "picnic.jpg")]

    def work(_: int) -> None:
        with Segmenter.load(backend=backend) as segmenter:
            pairs = [(path, NAMES) for path in paths]
            list(segmenter.stream(pairs, settings=FAST))
            list(segmenter.stream([("nowhere.jpg", NAMES)], settings=FAST, errors="return"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert state() == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_importing_and_loading_in_a_thread_leaves_the_process_as_it_is(backend: str) -> None:
    """In a fresh process, where libraries are imported by a thread that is not the main one."""
    pytest.importorskip(backend)
    code = f"""
import threading
from tests.engine.test_process_state import FAST, NAMES, SAMPLES, state
before = state()
def work():
    from pnp_ovss.engine import Segmenter
    with Segmenter.load(backend={backend!r}) as segmenter:
        segmenter.segment(SAMPLES / "beach.jpg", NAMES, settings=FAST)
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
after = state()
changed = [name for name in after if after[name] != before[name]]
assert not changed, [(before[name], after[name]) for name in changed]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout


def test_what_an_application_prints_meanwhile_stays_on_its_stream() -> None:
    code = """
import sys, threading
from pnp_ovss.engine import Segmenter
stop = threading.Event()
def load():
    while not stop.is_set():
        Segmenter.load(backend="onnxruntime").close()
threads = [threading.Thread(target=load) for _ in range(2)]
for thread in threads: thread.start()
for _ in range(2000): print("x")
stop.set()
for thread in threads: thread.join()
assert sys.stdout is sys.__stdout__
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "x\n" * 2000
    assert not done.stderr
