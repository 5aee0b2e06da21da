"""Builds libpnp_ovss once for all tests, as its README tells, and runs programs that use it."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from benchmarks.contenders.c_library import runtime_of_python
from tests.once import made_once

ROOT = Path(__file__).resolve().parents[3]
CAPI = ROOT / "engine" / "capi"
INCLUDE = CAPI / "include"
DEMO = Path(str(resources.files("pnp_ovss.engine") / "data" / "demo"))
C99 = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")
CPP11 = ("-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror")
_FLAGS = ("CFLAGS", "CPPFLAGS", "CXXFLAGS", "LDFLAGS", "CMAKE_BUILD_TYPE")


def build_folder(factory: pytest.TempPathFactory) -> Path:
    """Return a folder: library and examples are in `build`, what is installed in `prefix`."""
    cmake = tool("cmake")
    tool("c++")

    def make(folder: Path) -> None:
        build = folder / "build"
        run(cmake, "-S", CAPI, "-B", build, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
        run(cmake, "--build", build, "--parallel", "2")
        # What cmake wrote knows the folder by the name that it has now.
        run(cmake, "--install", build, "--prefix", folder / "prefix")

    return made_once(factory, "capi", make)


def library(factory: pytest.TempPathFactory) -> Path:
    """Return the path of libpnp_ovss.so; it is skipped where cmake or a C++ compiler is missing."""
    return build_folder(factory) / "build" / "libpnp_ovss.so"


def ort_library() -> Path:
    """Return the path of ONNX Runtime's library in the wheel that is installed."""
    pytest.importorskip("onnxruntime")
    return runtime_of_python()


def tool(name: str) -> str:
    """Return the path of a program; where there is none, the test is skipped."""
    return shutil.which(name) or pytest.skip(f"there is no {name}")


def environment(**more: object) -> dict[str, str]:
    """Return an environment in which ONNX Runtime is found, and no flag of a compiler is set."""
    kept = {name: value for name, value in os.environ.items() if name not in _FLAGS}
    return {**kept, "PNP_OVSS_ORT": str(ort_library()), **{k: str(v) for k, v in more.items()}}


def run(*command: object, **more: object) -> str:
    """Run a command that must succeed, with variables as keywords; return what it prints."""
    done = attempt(*command, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def attempt(*command: object, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a command that may fail."""
    words = [str(word) for word in command]
    return subprocess.run(
        words, capture_output=True, text=True, check=False, env=environment(**more)
    )


def compiled(source: Path, built: Path, *flags: str) -> Path:
    """Compile a program in C or C++, by its suffix, and link it with a library that was built."""
    program = source.with_suffix("")
    compiler = tool("cc" if source.suffix == ".c" else "c++")
    places = [f"-I{INCLUDE}", f"-L{built.parent}", f"-Wl,-rpath,{built.parent}"]
    run(compiler, *flags, *places, source, "-o", program, "-lpnp_ovss", "-lpthread")
    return program
