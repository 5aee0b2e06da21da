"""The headers: they compile as they promise, and the program in the comment runs."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pnp_ovss.engine import Segmenter
from tests.engine.capi import built

HEADER = built.INCLUDE / "pnp_ovss.h"
WRAPPER = built.INCLUDE / "pnp_ovss.hpp"


@pytest.mark.parametrize("flags", [built.C99, ("-std=c11", *built.C99[1:])])
def test_the_header_is_c(flags: tuple[str, ...]):
    built.run(built.tool("cc"), *flags, "-fsyntax-only", "-x", "c", HEADER)


@pytest.mark.parametrize("flags", [built.CPP11, ("-std=c++20", *built.CPP11[1:])])
@pytest.mark.parametrize("header", [HEADER, WRAPPER], ids=lambda path: path.name)
def test_the_headers_are_cpp(tmp_path: Path, header: Path, flags: tuple[str, ...]):
    """Twice in a file, and by itself."""
    source = tmp_path / "twice.cpp"
    source.write_text(f'#include "{header.name}"\n' * 2)
    built.run(built.tool("c++"), *flags, "-fsyntax-only", f"-I{built.INCLUDE}", source)


def test_a_fault_in_the_header_would_be_seen(tmp_path: Path):
    header = tmp_path / "pnp_ovss.h"
    header.write_text(HEADER.read_text().replace("int32_t code;", "bool code;", 1))
    done = built.attempt(built.tool("cc"), *built.C99, "-fsyntax-only", "-x", "c", header)
    assert "bool" in done.stderr


@pytest.mark.slow
def test_the_program_in_the_comment_runs(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    comment = HEADER.read_text().partition("*/")[0]
    (program,) = re.findall(r"^( +#include <pnp_ovss\.h>\n.*?^ {5}\})$", comment, re.M | re.S)
    source = tmp_path / "program.c"
    source.write_text(textwrap.dedent(program) + "\n")
    example = built.compiled(source, built.library(tmp_path_factory), *built.C99)
    assert built.run(example, built.DEMO).startswith("the label of the first pixel: ")
    done = built.attempt(example, tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.slow
def test_the_wrapper_gives_what_the_engine_gives(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    source = tmp_path / "wrapped.cpp"
    source.write_bytes(Path(__file__).with_name("wrapped.cpp").read_bytes())
    program = built.compiled(source, built.library(tmp_path_factory), *built.CPP11)
    numbers, told = built.run(program, built.DEMO).splitlines()
    good, refused, version = told.split()
    assert (good, refused) == ("1", "7")
    assert version[0].isdigit()

    indices = np.arange(64 * 48 * 3)
    image = (indices * 7 + indices // 192 * 5).astype(np.uint8).reshape(48, 64, 3)
    segmenter = Segmenter.load("demo", backend="onnxruntime", device="cpu", threads=1)
    wanted = segmenter.segment(
        image, ["cat", "umbrella", "turtle"], settings=replace(segmenter.settings, crf=None)
    )
    values = np.array([float(number) for number in numbers.split()], np.float32)
    scores, match, labels = np.split(values, [3, 3 + len(wanted.match)])
    np.testing.assert_array_equal(scores, wanted.scores)
    np.testing.assert_array_equal(match, wanted.match)
    np.testing.assert_array_equal(labels.reshape(48, 64), wanted.labels)
