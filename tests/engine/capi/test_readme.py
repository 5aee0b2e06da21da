"""What the README of the library says: its commands and its programs do run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import Segmenter
from tests.conftest import SAMPLES
from tests.engine.capi import built

pytestmark = pytest.mark.slow  # the library is built

README = (built.CAPI / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


@pytest.fixture
def clone(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a clone in which the first two commands were run."""
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "capi").symlink_to(built.library(tmp_path_factory).parent)
    (tmp_path / "engine").symlink_to(built.ROOT / "engine")
    return tmp_path


def in_shell(command: str, folder: Path, data: bytes = b"") -> bytes:
    words = {"cwd": folder, "env": built.environment(), "capture_output": True, "shell": True}
    done = subprocess.run(command, input=data, check=False, **words)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_three_commands_lead_to_labels(clone: Path):
    """The first two are those by which the tests build it; the third prints what is shown."""
    configure, build, segment = blocks("sh")[0].splitlines()
    assert configure == "cmake -S engine/capi -B build/capi"
    assert build == "cmake --build build/capi --parallel"
    (shown,) = blocks("text")
    assert in_shell(segment, clone).decode() == shown
    assert len(list(clone.glob("beach.labels.*"))) == len(list(clone.glob("beach.overlay.*"))) == 1


def test_the_program_gives_the_labels_of_the_engine(clone: Path):
    (program,) = blocks("c")
    assert len(program.splitlines()) <= 25
    (clone / "program.c").write_text(program)
    (command,) = (block for block in blocks("sh") if block.startswith("cc "))
    in_shell(command.replace("cc ", "cc -std=c99 -pedantic -Wall -Wextra -Werror ", 1), clone)
    image = Image.open(SAMPLES / "beach.jpg").convert("RGB")
    found = np.frombuffer(in_shell("./program", clone, image.tobytes()), np.uint16)
    segmenter = Segmenter.load("demo", backend="onnxruntime", device="cpu", threads=1)
    wanted = segmenter.segment(image, ["sailing boat", "umbrella", "turtle"]).labels
    assert (found.reshape(wanted.shape) != wanted).mean() < 1e-4  # on one thread, 0


def test_the_lines_in_cpp_compile(tmp_path: Path):
    (lines,) = blocks("cpp")
    source = tmp_path / "lines.cpp"
    begin = "uint16_t label(const uint8_t *rgb, uint32_t width, uint32_t height) {"
    end = "return result.label(0, 0);\n}\n"
    source.write_text(f"#include <pnp_ovss.hpp>\n{begin}\n{lines}{end}")
    compiler = built.tool("c++")
    built.run(compiler, *built.CPP11, "-fsyntax-only", f"-I{built.INCLUDE}", source)


def test_a_wheel_is_searched_where_it_lies():
    """The path in the command is that of a wheel."""
    (line,) = re.findall(r"export PNP_OVSS_ORT=\$\(echo \$PWD/build/(.*)\)", README)
    assert list(built.ort_library().parents[2].glob(line)) == [built.ort_library()]


def test_the_options_are_told():
    cmake = (built.CAPI / "CMakeLists.txt").read_text()
    for option in re.findall(r"^option\((\w+)", cmake, re.M):
        assert f"| `{option}` |" in README
