"""Where CUDA's headers and driver are found; on no GPU."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.utils import cpp_extension

from pnp_ovss.engine import BackendError
from pnp_ovss.export.build import cuda_toolkit

HEADERS = ("cuda.h", "cuda_runtime_api.h", "crt/host_defines.h", "cccl/nv/target")


def toolkit(home: Path, *headers: str) -> Path:
    for name in headers:
        path = home / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#define FROM_{home.name.upper()}\n")
    return home


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Nothing of this machine is found."""
    for name in ("CUDA_HOME", "CUDA_PATH", "CPATH", "LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(cuda_toolkit, "INSTALLED", tmp_path / "nowhere")
    monkeypatch.setattr(cuda_toolkit.importlib.util, "find_spec", lambda _: None)
    return monkeypatch


def packages(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let pip have put NVIDIA's packages there."""
    spec = SimpleNamespace(submodule_search_locations=[str(folder) for folder in folders])
    monkeypatch.setattr(cuda_toolkit.importlib.util, "find_spec", lambda _: spec)


def test_nothing_is_there(alone):
    with pytest.raises(
        BackendError, match="CUDA's headers for C\\+\\+ are not installed"
    ) as caught:
        cuda_toolkit.find_toolkit()
    assert "pip install 'pnp-ovss[aotinductor]'" in caught.value.cure


def test_what_is_missing_is_named(alone, tmp_path: Path):
    packages(alone, tmp_path)
    toolkit(tmp_path / "cu13", "cuda.h", "cuda_runtime_api.h")
    with pytest.raises(BackendError, match=r"cu13' lacks .*: crt/host_defines.h, nv/target"):
        cuda_toolkit.find_toolkit()


def test_pips_packages_come_before_what_is_installed(alone, tmp_path: Path):
    packages(alone, tmp_path)
    alone.setattr(cuda_toolkit, "INSTALLED", toolkit(tmp_path / "cuda", *HEADERS))
    assert cuda_toolkit.find_toolkit().home == tmp_path / "cuda"
    home = toolkit(tmp_path / "cu13", *HEADERS)
    toolkit(tmp_path / "cu12", *HEADERS)
    found = cuda_toolkit.find_toolkit()
    assert (found.home, found.includes) == (home, [home / "include", home / "include" / "cccl"])


def test_pips_packages_may_be_in_several_folders(alone, tmp_path: Path):
    """As where what a machine lacks was brought along."""
    packages(alone, tmp_path / "brought", tmp_path / "there")
    toolkit(tmp_path / "there" / "cu13", *HEADERS[:2])
    toolkit(tmp_path / "brought" / "cu12", *HEADERS)
    assert cuda_toolkit.find_toolkit().home == tmp_path / "brought" / "cu12"
    toolkit(tmp_path / "brought" / "cu13", *HEADERS[2:])
    found = cuda_toolkit.find_toolkit()
    assert found.home == tmp_path / "there" / "cu13"
    assert found.includes[-1] == tmp_path / "brought" / "cu13" / "include" / "cccl"


def test_the_one_that_was_named_is_taken_or_refused(alone, tmp_path: Path):
    packages(alone, tmp_path)
    toolkit(tmp_path / "cu13", *HEADERS)
    alone.setenv("CUDA_HOME", str(toolkit(tmp_path / "named", *HEADERS[:1])))
    with pytest.raises(BackendError, match="named' lacks headers of CUDA"):
        cuda_toolkit.find_toolkit()
    toolkit(tmp_path / "named", *HEADERS)
    assert cuda_toolkit.find_toolkit().home == tmp_path / "named"


def test_that_of_nvcc_on_the_path_is_found_through_links(alone, tmp_path: Path):
    home = toolkit(tmp_path / "cuda-13.0", *HEADERS)
    for folder in (home / "bin", tmp_path / "bin"):
        folder.mkdir()
    (home / "bin" / "nvcc").write_text("#!/bin/sh\n")
    (home / "bin" / "nvcc").chmod(0o755)
    (tmp_path / "bin" / "nvcc").symlink_to(home / "bin" / "nvcc")
    assert cuda_toolkit.find_toolkit().home == home


@pytest.mark.parametrize("stub", [True, False])
def test_the_compiler_finds_headers_and_driver(alone, tmp_path: Path, stub: bool):
    """The driver's library is a stub of the toolkit's, or the one that the process has loaded."""
    home = toolkit(tmp_path / "cu13", *HEADERS)
    library = home / "lib64" / "stubs" / "libcuda.so" if stub else tmp_path / "libcuda.so.1"
    library.parent.mkdir(parents=True, exist_ok=True)
    compiler = ["/usr/bin/env", f"PATH={os.defpath}", "c++", "-shared", "-fPIC", "-x", "c++"]
    subprocess.run([*compiler, "/dev/null", "-o", library], check=True)
    maps = tmp_path / "maps"
    maps.write_text("" if stub else f"7f00-7f01 r-xp 00000000 00:00 1 {library}\n")
    alone.setattr(cuda_toolkit, "MAPS", maps)
    alone.setenv("CUDA_HOME", str(home))
    alone.setenv("CPATH", "/of/the/user")
    alone.setattr(cpp_extension, "CUDA_HOME", None)
    source = tmp_path / "x.cpp"
    source.write_text(
        "#include <cuda.h>\n#include <nv/target>\n#ifndef FROM_CU13\n#error\n#endif\n"
    )
    link = [*compiler, source, "-x", "none", "-lcuda", "-o", tmp_path / "x.so"]
    assert subprocess.run(link, check=False).returncode != 0
    with cuda_toolkit.compiling_for_cuda():
        assert str(home) == cpp_extension.CUDA_HOME
        assert os.environ["CPATH"].endswith(":/of/the/user")
        subprocess.run(link, check=True)
    assert cpp_extension.CUDA_HOME is None
    assert os.environ["CPATH"] == "/of/the/user"
    assert "LIBRARY_PATH" not in os.environ


def test_there_is_no_driver(alone, tmp_path: Path):
    alone.setenv("CUDA_HOME", str(toolkit(tmp_path / "cu13", *HEADERS)))
    alone.setattr(cuda_toolkit, "MAPS", tmp_path / "maps")
    with (
        pytest.raises(BackendError, match="driver is not loaded"),
        cuda_toolkit.compiling_for_cuda(),
    ):
        pass
