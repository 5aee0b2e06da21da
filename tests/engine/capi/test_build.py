"""The library as it is built and installed: what it exports, needs and weighs, and who finds it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests import thresholds
from tests.engine.capi import built

pytestmark = pytest.mark.slow  # the library is built

SYSTEM = {  # the C library, which older versions have in several files, and that of C++
    *("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libstdc++.so.6"),
    *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
}
USER = """
#include <pnp_ovss.h>
#include <stdio.h>

int main(int argc, char **argv) {
    pnp_ovss_model *model = NULL;
    pnp_ovss_error error = {sizeof error, 0, "", ""};
    pnp_ovss_model_info info = {.struct_size = sizeof info};
    if (argc < 2 || pnp_ovss_model_open(NULL, argv[1], NULL, &model, &error) ||
        pnp_ovss_model_describe(model, &info, &error))
        return fprintf(stderr, "%s\\n", error.cause), 1;
    printf("%s %d %s\\n", pnp_ovss_version(), (int)pnp_ovss_abi(), info.family);
    pnp_ovss_model_close(model);
    return 0;
}
"""
PROJECT = """
cmake_minimum_required(VERSION 3.16)
project(user C)
find_package(pnp_ovss 0.1 REQUIRED)
add_executable(user user.c)
target_link_libraries(user pnp_ovss::pnp_ovss)
"""
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into an ELF file")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built.build_folder(tmp_path_factory)


@pytest.fixture
def library(folder: Path) -> Path:
    return folder / "build" / "libpnp_ovss.so"


def project_text() -> str:
    return (built.ROOT / "pyproject.toml").read_text()


def version() -> str:
    return re.findall(r'^version = "(.*)"$', project_text(), re.M)[0]


def abi() -> str:
    header = (built.INCLUDE / "pnp_ovss.h").read_text()
    return re.findall(r"^#define PNP_OVSS_ABI (\d+)", header, re.M)[0]


@needs_linux
def test_only_the_interface_is_exported(library: Path):
    """All of it, and nothing else."""
    lines = built.run(built.tool("nm"), "-D", "--defined-only", library).splitlines()
    header = (built.INCLUDE / "pnp_ovss.h").read_text()
    declared = re.findall(r"^PNP_OVSS_API [^(]*?\b(pnp_ovss_\w+)\(", header, re.M)
    assert len(declared) > 20
    assert {line.split()[-1].partition("@")[0] for line in lines} == set(declared)
    assert {line.split()[-2] for line in lines} == {"T"}


@needs_linux
def test_it_needs_the_c_and_cpp_libraries_alone(library: Path):
    told = built.run(built.tool("readelf"), "-d", library)
    assert set(re.findall(r"\(NEEDED\).*\[(.*)\]", told)) <= SYSTEM
    assert re.findall(r"\(SONAME\).*\[(.*)\]", told) == [f"libpnp_ovss.so.{abi()}"]
    assert "RPATH" not in told
    assert "RUNPATH" not in told


@needs_linux
def test_it_is_small(library: Path, tmp_path: Path):
    stripped = tmp_path / "stripped.so"
    built.run(built.tool("strip"), "-o", stripped, library)
    assert stripped.stat().st_size < thresholds.C_LIBRARY_BYTES


def test_kernels_are_compiled_as_in_the_python_package(folder: Path):
    """On rounding, each flag counts."""
    entries = json.loads((folder / "build" / "compile_commands.json").read_text())
    used = {
        Path(one["file"]).name: {
            word
            for word in shlex.split(one["command"])
            if re.match(r"-(O|f|m|W|std|pthread)", word) and word != "-fPIC"
        }
        for one in entries
        if Path(one["file"]).parent == built.ROOT / "kernels" / "cpu"
    }
    assert used == {Path(source).name: flags for source, flags in flags_of_python().items()}


def flags_of_python() -> dict[str, set[str]]:
    """The flags of each source of the extensions; Python 3.10 cannot read TOML itself."""
    modules = project_text().split("[[tool.setuptools.ext-modules]]")[1:]
    return {
        source: set(listed("extra-compile-args", module))
        for module in modules
        for source in listed("sources", module)
    }


def listed(name: str, module: str) -> list[str]:
    (values,) = re.findall(rf"^{name} = \[(.*?)\]", module, re.M | re.S)
    return re.findall(r'"([^"]+)"', values)


def test_the_flags_of_the_python_package_are_found():
    found = flags_of_python()
    assert len(found) == 5
    assert all("-std=c++17" in flags for flags in found.values())


@pytest.fixture
def prefix(folder: Path, tmp_path: Path) -> Path:
    """An installation that was moved."""
    return Path(shutil.copytree(folder / "prefix", tmp_path / "moved", symlinks=True))


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A project that uses the library."""
    project = tmp_path / "user"
    project.mkdir()
    (project / "user.c").write_text(USER)
    (project / "CMakeLists.txt").write_text(PROJECT)
    return project


def test_what_is_installed(prefix: Path):
    names = {path.name for path in prefix.rglob("*") if path.is_file() or path.is_symlink()}
    numbers = re.match(r"[\d.]+", version())
    assert numbers
    assert {name for name in names if ".so" in name or ".dylib" in name} == (
        {"libpnp_ovss.so", f"libpnp_ovss.so.{abi()}", f"libpnp_ovss.so.{numbers[0]}"}
        if sys.platform == "linux"
        else {name for name in names if name.endswith(".dylib")}
    )
    assert {name for name in names if "so" not in name.split(".") and "dylib" not in name} == {
        *("pnp_ovss.h", "pnp_ovss.hpp", "pnp_ovss.pc", "pnp_ovss-config.cmake"),
        *("pnp_ovss-config-version.cmake", "pnp_ovss-targets.cmake"),
        "pnp_ovss-targets-release.cmake",
    }
    for path in prefix.rglob("*"):
        if path.suffix in (".cmake", ".pc") and path.is_file():
            assert "once-capi" not in path.read_text()  # no path of where it was built


def test_a_project_of_cmake_finds_it(prefix: Path, user: Path):
    build = user / "build"
    cmake = built.tool("cmake")
    built.run(cmake, "-S", user, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}")
    built.run(cmake, "--build", build)
    assert built.run(build / "user", built.DEMO) == f"{version()} {abi()} blip\n"


def test_pkg_config_finds_it(prefix: Path, user: Path):
    pkg_config = built.tool("pkg-config")
    (found,) = prefix.rglob("pnp_ovss.pc")
    told = built.run(pkg_config, "--cflags", "--libs", "pnp_ovss", PKG_CONFIG_PATH=found.parent)
    assert built.run(pkg_config, "--modversion", found).strip() == version()
    program, compiler = user / "user", built.tool("cc")
    built.run(compiler, user / "user.c", *shlex.split(told), "-o", program)
    places = {"LD_LIBRARY_PATH": found.parents[1]}
    assert built.run(program, built.DEMO, **places) == f"{version()} {abi()} blip\n"


def test_another_project_may_contain_it(user: Path):
    """It is configured without examples, and leaves the project's own settings alone."""
    (user / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(user C)\n"
        f'add_subdirectory("{built.CAPI}" pnp_ovss)\n'
        "add_executable(user user.c)\ntarget_link_libraries(user pnp_ovss::pnp_ovss)\n"
        "if(CMAKE_BUILD_TYPE OR PNP_OVSS_EXAMPLES OR TARGET stress)\n"
        "  message(FATAL_ERROR changed)\nendif()\n"
    )
    built.run(built.tool("cmake"), "-S", user, "-B", user / "build")
