"""The command runs wherever a process can: without streams, a home, or a working folder."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import SAMPLES
from tests.engine.cli.command_line import SCRIPT, assert_short, errors

DEMO = [str(SCRIPT), "demo", "-o"]
BEACH = str(SAMPLES / "beach.jpg")
FILES = 9  # that the demo writes


def shell(line: str, **options: object) -> subprocess.CompletedProcess[str]:
    words = {"capture_output": True, "text": True, "timeout": 60, "check": False} | options
    return subprocess.run(["bash", "-c", line], **words)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "closed", [">&-", "2>&-", "<&-", ">&- 2>&-", ">&- 2>&- <&-"], ids=lambda text: text
)
def test_closed_streams_stop_nothing(tmp_path: Path, closed: str) -> None:
    done = shell(f"{shlex.join([*DEMO, str(tmp_path / 'out')])} {closed}")
    assert done.returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == FILES
    assert "Traceback" not in done.stderr
    assert ("beach.overlay.png" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    """What a library prints would go into them."""
    out = tmp_path / "out"
    words = [
        str(SCRIPT),
        "segment",
        str(tmp_path / "none.jpg"),
        BEACH,
        "-c",
        "turtle",
        "-o",
        str(out),
    ]
    assert shell(f"{shlex.join(words)} >&- 2>&- <&-").returncode == 2
    assert shell(shlex.join(words)).returncode == 2
    for path in out.iterdir():
        assert path.read_bytes()[:1] in (b"{", b"\x89")


def test_a_user_without_home_and_name(tmp_path: Path) -> None:
    """As in a container that is run as a user who is not in /etc/passwd."""
    code = """
import os, pwd, sys
def unknown(_): raise KeyError
pwd.getpwuid = pwd.getpwnam = unknown
from pnp_ovss.engine.cli import main
sys.exit(main(["demo", "-o", "out"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not errors(done.stderr)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "-o", "~nosuchuser/x"],
        ["segment", BEACH, "-c", "turtle", "-o", "~nosuchuser/x"],
        ["segment", BEACH, "-c", "turtle", "-m", "~nosuchuser/x"],
        ["evaluate", "stickers", "--images", "1", "-o", "~nosuchuser/x"],
    ],
)
def test_the_home_of_nobody(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [str(SCRIPT), *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert_short(errors(done.stderr))
    assert "no home folder of ~nosuchuser" in done.stderr
    assert not list(tmp_path.iterdir())


def in_a_deleted_folder(words: list[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    gone = tmp_path / "gone"
    gone.mkdir()
    return shell(f"cd {gone} && rmdir {gone} && {shlex.join([str(SCRIPT), *words])}")


@pytest.mark.parametrize("words", [["demo"], ["segment", BEACH, "-c", "turtle"], ["doctor"]])
def test_a_deleted_working_folder_does_not_matter_to_full_paths(
    words: list[str], tmp_path: Path
) -> None:
    out = [] if words == ["doctor"] else ["-o", str(tmp_path / "out")]
    done = in_a_deleted_folder([*words, *out], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["demo"],
        ["demo", "-o", "out"],
        ["segment", "a.jpg", "-c", "turtle", "-o", "/nowhere/out"],
        ["segment", BEACH, "-c", "turtle", "-o", "out"],
        ["segment", BEACH, "-c", "turtle", "-m", "model", "-o", "/nowhere/out"],
        ["segment", BEACH, "-c", "turtle", "--classes-file", "names.txt", "-o", "/nowhere/out"],
        ["evaluate", "stickers", "--images", "1", "-o", "out"],
    ],
)
def test_a_deleted_working_folder_is_told(words: list[str], tmp_path: Path) -> None:
    done = in_a_deleted_folder(words, tmp_path)
    assert done.returncode == 2, done.stderr
    assert_short(errors(done.stderr))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_half_written(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    words = [str(SCRIPT), "segment", *[f"{tmp_path}/{index}.jpg" for index in range(40)]]
    for word in words[2:]:
        os.link(BEACH, word)
    process = subprocess.Popen(
        [*words, "-c", "turtle,umbrella", "-o", str(out), "--batch-size", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, number, signal.SIG_DFL),  # `nohup make test` ignores one
    )
    assert process.stderr
    latest = time.monotonic() + 40
    while not (out.exists() and len(list(out.iterdir())) > 4) and time.monotonic() < latest:
        time.sleep(0.005)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
    assert_short(errors(said).lstrip())  # a terminal shows ^C before it
    names = {path.name for path in out.iterdir()}
    assert names
    assert not [name for name in names if name.startswith(".")]
    stems = {name.split(".")[0] for name in names}
    assert len(names) == 3 * len(stems)
    assert len(stems) < 40


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    code = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from pnp_ovss.engine.cli.process import command_process
with command_process():
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_users_own_demo_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    words = [str(SCRIPT), "segment", BEACH, "-c", "turtle", "-o", "out"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "./demo" in done.stderr
    done = subprocess.run(
        [*words, "-m", "./demo"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "is not a model folder" in done.stderr


LAST = f"""
import atexit, sys, threading, time
from pnp_ovss.engine import Segmenter
segmenter = Segmenter.load(backend=sys.argv[1])
def work():
    pairs = [({BEACH!r}, ["turtle"])] * 5
    one = segmenter.segment(*pairs[0]).labels
    many = [result.labels for result in segmenter.stream(pairs, batch_size=2)]
    print(all((labels == one).all() for labels in many), len(many))
"""


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "when",
    [
        "def later(): threading.main_thread().join(); time.sleep(0.2); work()\n"
        "threading.Thread(target=later).start()",
        "atexit.register(work)",
    ],
    ids=["after the main thread", "at exit"],
)
def test_a_segmenter_works_to_the_very_end(when: str, backend: str) -> None:
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-c", LAST + when, backend],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "True 5\n", done.stderr
    assert not done.stderr


def test_a_stream_that_is_left_at_the_end_ends_with_it() -> None:
    code = f"""
import itertools
from pnp_ovss.engine import Segmenter
results = Segmenter.load().stream(itertools.repeat(({BEACH!r}, ["turtle"])), batch_size=4)
next(results)
"""
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_pipe_where_a_report_would_be(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "beach.json")
    words = [str(SCRIPT), "segment", BEACH, "-c", "turtle", "-o", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "which is no result" in done.stderr


def test_a_name_that_begins_with_a_tilde_fails_alone(tmp_path: Path) -> None:
    words = [str(SCRIPT), "segment", BEACH, "~nobody.jpg", "-c", "turtle", "-o", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no image at '~nobody.jpg'" in done.stderr
    assert (tmp_path / "beach.png").exists()


@pytest.mark.slow
def test_daemon_threads_do_not_abort_the_end() -> None:
    """As those of a web server, which are in the middle of a request when the process ends."""
    code = f"""
import sys, threading, time
from pnp_ovss.engine import Segmenter
segmenter = Segmenter.load(backend=sys.argv[1])
def work():
    while True: segmenter.segment({BEACH!r}, ["turtle"])
for _ in range(3): threading.Thread(target=work, daemon=True).start()
time.sleep(0.5)
sys.exit(0)
"""
    for backend in ("onnxruntime", "openvino"):
        for _ in range(3):
            words = [sys.executable, "-c", code, backend]
            done = subprocess.run(words, capture_output=True, timeout=60, check=False)
            assert (done.returncode, done.stderr) == (0, b"")
