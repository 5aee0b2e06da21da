"""Compiles and runs the C++ tests of the kernels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CPU = Path(__file__).parents[3] / "kernels" / "cpu"


def build(folder: Path, test: str, *flags: str) -> Path:
    """Compile a test of this folder, along with all kernels."""
    compiler = shutil.which("c++") or pytest.skip("no C++ compiler")
    program = folder / Path(test).stem
    sources = [Path(__file__).with_name(test), *CPU.glob("*.cpp")]
    standard = ["-std=c++17", "-g", "-Wno-psabi", "-pthread", "-fno-sanitize-recover=all"]
    words = [compiler, *standard, f"-I{CPU}", *flags, "-o", program, *sources]
    subprocess.run(words, check=True)
    return program


def run(program: Path, *words: str) -> str:
    """Run a test, and return what it says; it must say nothing of a fault."""
    done = subprocess.run([program, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
