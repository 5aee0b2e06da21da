"""A pre-forking server: the engine is loaded before the fork or after it, and ends in time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest

from pnp_ovss.engine import Segmenter, Settings
from tests import thresholds
from tests.conftest import SAMPLES

pytest.importorskip("gunicorn")
ROOT = Path(__file__).resolve().parents[2]
STARTED = 60  # seconds
FAST = Settings(passes=2, drop_mode="attention")  # as in `wsgi.py`, which loads a model on import

Server = tuple[subprocess.Popen[str], str]
Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    servers: list[subprocess.Popen[str]] = []

    def run(backend: str, *options: str, warm: bool = False) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = ["-m", "gunicorn", "tests.engine.wsgi", "-w", "2", "-b", f"127.0.0.1:{port}"]
        log = (tmp_path / "log").open("w")
        server = subprocess.Popen(
            [
                sys.executable,
                *words,
                *options,
                "--graceful-timeout",
                "20",
                "--worker-tmp-dir",
                str(tmp_path),
            ],
            cwd=ROOT,
            env={**os.environ, "BACKEND": backend, "WARM": "1" if warm else ""},
            stderr=log,
            text=True,
        )
        servers.append(server)
        latest = time.monotonic() + STARTED
        while time.monotonic() < latest and server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return server, f"http://127.0.0.1:{port}/beach.jpg"
            except OSError:
                time.sleep(0.05)
        pytest.fail((tmp_path / "log").read_text())

    yield run
    for server in servers:
        server.kill()
        server.wait()


def ask(url: str) -> dict[str, object]:
    with urlopen(url, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.timing
@pytest.mark.parametrize(
    ("options", "warm", "backend"),
    [
        pytest.param((), False, "onnxruntime", id="loaded after the fork"),
        pytest.param(("--preload",), True, "openvino", id="preloaded and used"),
        pytest.param((), False, "openvino", marks=pytest.mark.slow, id="openvino"),
        pytest.param(("--preload",), True, "onnxruntime", marks=pytest.mark.slow, id="onnxruntime"),
        pytest.param(("--preload",), False, "openvino", marks=pytest.mark.slow, id="preloaded"),
        pytest.param(("--threads", "4"), False, "openvino", marks=pytest.mark.slow, id="threads"),
    ],
)
def test_requests_are_answered_and_sigterm_ends_it(
    start: Start, options: tuple[str, ...], warm: bool, backend: str
) -> None:
    pytest.importorskip(backend)
    server, url = start(backend, *options, warm=warm)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, [url] * 8))
    with Segmenter.load(backend=backend, threads=1) as segmenter:
        names = ["turtle", "umbrella"]
        expected = segmenter.segment(SAMPLES / "beach.jpg", names, settings=FAST)
    assert {tuple(answer["areas"]) for answer in answers} == {tuple(expected.areas().tolist())}  # type: ignore[arg-type]
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=60) == 0
    assert time.monotonic() - began < thresholds.ENDED


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(start: Start) -> None:
    """The new one is forked from a parent that has loaded the model, and may have used it."""
    server, url = start("onnxruntime", "--preload", warm=True)
    first = ask(url)
    for process in {first["process"], *(ask(url)["process"] for _ in range(6))}:
        os.kill(int(str(process)), signal.SIGKILL)
    time.sleep(0.2)
    again = ask(url)
    assert again["areas"] == first["areas"]
    assert again["process"] != first["process"]
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=60) == 0
