"""No process that uses the engine looks up a name, or writes anywhere but where it is told to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import SAMPLES
from tests.engine.cli.command_line import SCRIPT
from tests.once import made_once

SOURCE = Path(__file__).with_name("recorder.cpp")

SEGMENT = f"""
import os, sys
from pnp_ovss.engine import Segmenter, Settings
before = dict(os.environ)
with Segmenter.load(backend=sys.argv[1], device="cpu") as segmenter:
    settings = Settings(crf=sys.argv[2] if sys.argv[2:] else "densecrf", drop_mode="tokens")
    segmenter.segment({str(SAMPLES / "beach.jpg")!r}, ["turtle", "umbrella"], settings=settings)
assert dict(os.environ) == before
"""

Watch = Callable[..., list[str]]


@pytest.fixture
def watch(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Watch:
    """Run a command where every folder is empty; return what it looked up, and wrote elsewhere."""
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")

    def build(folder: Path) -> None:
        flags = ["-std=c++17", "-shared", "-fPIC", "-O1"]
        library = str(folder / "recorder.so")
        subprocess.run([compiler, *flags, str(SOURCE), "-o", library, "-ldl"], check=True)

    recorder = made_once(tmp_path_factory, "recorder", build) / "recorder.so"

    def run(*command: object, **environment: str) -> list[str]:
        places = {name: tmp_path / name.lower() for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
        for place in (*places.values(), tmp_path / "work"):
            place.mkdir()
        record = tmp_path / "record"
        done = subprocess.run(
            [*map(str, command)],
            cwd=tmp_path / "work",
            env={
                "PATH": os.environ["PATH"],
                "PYTHONDONTWRITEBYTECODE": "1",
                "LD_PRELOAD": str(recorder),
                "RECORD": str(record),
                **{name: str(place) for name, place in places.items()},
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = record.read_text().splitlines() if record.exists() else []
        allowed = (f"write {tmp_path}/xdg_cache_home", "write /dev/null", "write /proc/self/")
        return [line for line in lines if not line.startswith(allowed)]

    return run


def test_what_is_looked_up_and_written_is_recorded(watch: Watch) -> None:
    code = """
import os, socket, subprocess, sys
child = "import socket; socket.gethostbyname_ex('child.invalid')"
try: socket.getaddrinfo('parent.invalid', 80)
except OSError: pass
subprocess.run([sys.executable, "-c", child], stderr=subprocess.DEVNULL)
os.makedirs(os.path.expanduser('~/intel'))
open(os.path.expanduser('~/intel/id'), 'w').close()
"""
    found = watch(sys.executable, "-c", code)
    assert any("parent.invalid" in line for line in found)
    assert any("child.invalid" in line for line in found)
    assert any(line.endswith("home/intel/id") for line in found)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "auto"])
def test_a_segmenter_reports_nothing(watch: Watch, backend: str) -> None:
    pytest.importorskip("openvino" if backend != "onnxruntime" else "onnxruntime")
    assert not watch(sys.executable, "-c", SEGMENT, backend)


@pytest.mark.skipif(not find_spec("pydensecrf"), reason="pydensecrf2 is not installed")
def test_pydensecrf_reports_nothing(watch: Watch) -> None:
    assert not watch(sys.executable, "-c", SEGMENT, "onnxruntime", "pydensecrf")


@pytest.mark.parametrize("words", [["doctor"], ["evaluate", "stickers", "--images", "1"]])
def test_commands_report_nothing(watch: Watch, words: list[str]) -> None:
    assert not watch(SCRIPT, *words)


def test_a_command_writes_its_output_alone(watch: Watch, tmp_path: Path) -> None:
    written = watch(SCRIPT, "demo", "-o", tmp_path / "out")
    assert written
    assert all(line.startswith(f"write {tmp_path}/out") for line in written)


def test_openvino_lacks_nothing_but_its_reporter() -> None:
    """An application may go on to use what the engine imported."""
    pytest.importorskip("openvino_telemetry")
    code = """
import sys
from pnp_ovss.engine.runners import openvino
assert "openvino_telemetry" not in sys.modules
import openvino, openvino_telemetry
assert openvino.convert_model
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("reporter", ["types.ModuleType('openvino_telemetry')", "None"])
def test_what_an_application_imported_or_barred_stays(reporter: str) -> None:
    code = f"""
import sys, types
reporter = sys.modules["openvino_telemetry"] = {reporter}
from pnp_ovss.engine.runners.telemetry import without_openvino_telemetry
with without_openvino_telemetry():
    assert sys.modules["openvino_telemetry"] is None
assert sys.modules["openvino_telemetry"] is reporter
"""
    subprocess.run([sys.executable, "-c", code], check=True)
