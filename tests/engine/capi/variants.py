"""Compiles the library's sources for its hostile tests: plain, and under sanitizers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.engine.capi import built
from tests.once import made_once

ROOT = Path(__file__).parents[3]
HERE, CAPI, KERNELS = Path(__file__).parent, ROOT / "engine" / "capi", ROOT / "kernels" / "cpu"
INCLUDES = (f"-I{CAPI / 'include'}", f"-I{CAPI / 'src'}", f"-I{KERNELS}", f"-I{HERE}")

VARIANTS = {
    "built": ("-O1", "-g"),  # programs that use the library as it is built for all
    "plain": ("-O1", "-g"),
    "asan": ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "tsan": ("-O1", "-g", "-fsanitize=thread"),
    "fuzz": (
        "-O1",
        "-g",
        "-fsanitize=fuzzer-no-link,address,undefined",
        "-fno-sanitize-recover=all",
    ),
}
WRAPPED = ("malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign")
EXACT = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")

# Leaks are found when a program ends. Sanitizers refuse allocations that no memory can hold; here
# they fail as they do without sanitizers.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


def compiler(variant: str, language: str) -> str:
    if variant == "fuzz":
        return shutil.which("clang++-14" if language == "c++" else "clang-14") or pytest.skip(
            "no clang with libFuzzer"
        )
    return shutil.which("g++" if language == "c++" else "gcc") or pytest.skip("no GCC")


def command(*words: object) -> str:
    """Run a command, which must succeed, and return what it says."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def together(commands: Iterable[list[object]]) -> None:
    """Run commands, as many at a time as there are processors."""
    waiting = [[str(word) for word in words] for words in commands]
    running: list[tuple[list[str], subprocess.Popen[str]]] = []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            words = waiting.pop()
            running.append((words, subprocess.Popen(words, stderr=subprocess.PIPE, text=True)))
        words, one = running.pop(0)
        said = one.communicate()[1]
        assert one.returncode == 0, f"{' '.join(words)}\n{said}"


def library_version() -> str:
    found = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


def compile_all(
    variant: str,
    folder: Path,
    sources: Iterable[Path],
    includes: Iterable[str] = INCLUDES,
) -> None:
    """Compile sources of the library and of the kernels, each to an object in a folder."""
    contract = {"densecrf.cpp": ("-ffp-contract=fast", "-fno-math-errno"), "loops.cpp": ()}
    contract["loops.cpp"] = contract["densecrf.cpp"]
    common = ["-std=c++17", "-pthread", "-fPIC", "-Wno-psabi", "-fvisibility=hidden"]
    version = f'-DPNP_OVSS_VERSION="{library_version()}"'
    together(
        [
            compiler(variant, "c++"),
            *common,
            *VARIANTS[variant],
            *(contract.get(source.name, EXACT)),
            *includes,
            version,
            "-c",
            source,
            "-o",
            folder / f"{source.parent.name}-{source.stem}.o",
        ]
        for source in sources
    )


def objects(factory: pytest.TempPathFactory, variant: str) -> list[Path]:
    """Compile the library once, and return its objects."""

    def make(folder: Path) -> None:
        compile_all(variant, folder, [*(CAPI / "src").glob("*.cpp"), *KERNELS.glob("*.cpp")])

    return sorted(made_once(factory, f"capi-objects-{variant}", make).glob("*.o"))


def stub(factory: pytest.TempPathFactory, variant: str) -> Path:
    """Compile the fake runtime once, and return its path."""

    def make(folder: Path) -> None:
        words = [compiler(variant, "c"), "-std=c11", *VARIANTS[variant], "-shared", "-fPIC"]
        words += ["-Wall", "-Wextra", "-fvisibility=hidden", "-pthread", *INCLUDES]
        sources = [HERE / "stub_onnxruntime.c", HERE / "stub_graphs.c"]
        command(*words, *sources, "-o", folder / "libonnxruntime_stub.so", "-lm")

    return made_once(factory, f"capi-stub-{variant}", make) / "libonnxruntime_stub.so"


def program(
    factory: pytest.TempPathFactory, variant: str, name: str, *sources: str, faults: bool = False
) -> Path:
    """Compile a test program once, with the library in it or linked to it, and return its path.

    Args:
        factory: pytest's fixture.
        variant: key of VARIANTS.
        name: of the program.
        sources: C sources in this folder.
        faults: whether allocations can be made to fail.
    """

    def make(folder: Path) -> None:
        gcc = [compiler(variant, "c"), "-std=gnu99", "-Wall", "-Wextra", *VARIANTS[variant]]
        if faults:
            gcc.append("-DWITH_ALLOCATIONS")
        together(
            [*gcc, *INCLUDES, "-c", HERE / source, "-o", folder / f"{Path(source).stem}.o"]
            for source in sources
        )
        linked: list[object] = [compiler(variant, "c++"), "-std=c++17", *VARIANTS[variant]]
        if faults:
            linked += [f"-Wl,--wrap={function}" for function in WRAPPED]
            linked.append(HERE / "allocations.cpp")
        linked += folder.glob("*.o")
        if variant == "built":
            library = built.library(factory)
            linked += [library, f"-Wl,-rpath,{library.parent}"]
        else:
            linked += objects(factory, variant)
        command(*linked, "-pthread", "-ldl", "-o", folder / name)

    return made_once(factory, f"capi-{name}-{variant}", make) / name


def run(
    path: Path, *words: object, environment: dict[str, str] | None = None, seconds: float = 300
) -> str:
    """Run a test program, which must find no fault, and return what it prints."""
    done = subprocess.run(
        [str(path), *map(str, words)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        env=os.environ | OPTIONS | (environment or {}),
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    return done.stdout
