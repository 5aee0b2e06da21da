"""Finds CUDA's headers and the driver's library for PyTorch's C++ compiler.

PyTorch's wheels bring most of the headers, but not all. The driver brings `libcuda.so.1`, while the
linker looks for `libcuda.so`. So PyTorch's compiler fails on a machine where only pip was used,
unless this module tells it the paths.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...engine.errors import BackendError

_HEADERS = ("cuda.h", "cuda_runtime_api.h", "crt/host_defines.h", "nv/target")
_FOLDERS = ("include", "include/cccl")  # CUDA 13 has moved some headers into the second
_STUBS = ("lib64/stubs", "lib/stubs", "targets/x86_64-linux/lib/stubs")
MAPS = Path("/proc/self/maps")
INSTALLED = Path("/usr/local/cuda")
_CURE = (
    "pip install 'pnp-ovss[aotinductor]', or name a CUDA toolkit: export CUDA_HOME=/usr/local/cuda"
)


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit, or pip's packages of one version of CUDA.

    Attributes:
        home: folder for the variable `CUDA_HOME`.
        includes: folders of headers.
    """

    home: Path
    includes: list[Path]

    @property
    def missing(self) -> list[str]:
        """Headers that the toolkit lacks."""
        return [
            name
            for name in _HEADERS
            if not any((folder / name).exists() for folder in self.includes)
        ]


def find_toolkit() -> Toolkit:
    """Find the first toolkit with all headers.

    `CUDA_HOME` names the only candidate, if it is set. Else pip's packages, the toolkit of `nvcc`
    and /usr/local/cuda are tried in this order.

    Raises:
        BackendError: no toolkit has all headers.
    """
    toolkits = [_toolkit(homes) for homes in _candidates()]
    for toolkit in toolkits:
        if not toolkit.missing:
            return toolkit
    best = min(toolkits, key=lambda toolkit: len(toolkit.missing), default=None)
    if best is None:
        raise BackendError("CUDA's headers for C++ are not installed", _CURE)
    raise BackendError(f"'{best.home}' lacks headers of CUDA: {', '.join(best.missing)}", _CURE)


def _toolkit(homes: list[Path]) -> Toolkit:
    """Make a toolkit of folders that belong together."""
    includes = [home / folder for home in homes for folder in _FOLDERS]
    return Toolkit(homes[0], [folder for folder in includes if folder.is_dir()])


def _candidates() -> list[list[Path]]:
    """List the folders of each toolkit that may have the headers, best toolkit first.

    pip's packages of one version of CUDA may be in several folders of Python's path.
    """
    if named := os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        return [[Path(named)]]
    spec = importlib.util.find_spec("nvidia")
    packages = [Path(path) for path in (spec.submodule_search_locations or [])] if spec else []
    homes = [home for package in packages for home in package.glob("cu[0-9]*")]
    homes.sort(
        key=lambda home: not (home / "include" / _HEADERS[0]).exists()
    )  # PyTorch's package first
    versions = sorted({home.name for home in homes}, reverse=True)
    candidates = [[home for home in homes if home.name == version] for version in versions]
    if nvcc := shutil.which("nvcc"):
        candidates.append([Path(nvcc).resolve().parents[1]])
    if INSTALLED.is_dir():
        candidates.append([INSTALLED])
    return candidates


def driver_library(home: Path) -> Path:
    """Find the driver's library for the linker: a stub in the toolkit, else the loaded library.

    Args:
        home: folder of the toolkit.

    Raises:
        BackendError: the toolkit has no stub, and the process has loaded no driver.
    """
    for folder in _STUBS:
        if (stub := home / folder / "libcuda.so").exists():
            return stub
    lines = MAPS.read_text().splitlines() if MAPS.exists() else []
    loaded = [line.split(maxsplit=5)[-1] for line in lines if "/libcuda.so" in line]
    if not loaded:
        raise BackendError(
            f"NVIDIA's driver is not loaded, and '{home}' has no stub of it to link with",
            "check the driver with nvidia-smi",
        )
    return Path(loaded[0])


@contextmanager
def compiling_for_cuda() -> Iterator[None]:
    """Set this process's environment so that PyTorch's C++ compiler finds headers and driver.

    Raises:
        BackendError: headers or the driver are missing.
    """
    from torch.utils import cpp_extension

    toolkit = find_toolkit()
    library = driver_library(toolkit.home)
    before = cpp_extension.CUDA_HOME  # read once, when that module was imported
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "libcuda.so").symlink_to(library)
        changes = {
            "CUDA_HOME": str(toolkit.home),
            "CPATH": _joined(toolkit.includes, os.environ.get("CPATH")),
            "LIBRARY_PATH": _joined([Path(folder)], os.environ.get("LIBRARY_PATH")),
        }
        cpp_extension.CUDA_HOME = str(toolkit.home)
        try:
            with _environment(changes):
                yield
        finally:
            cpp_extension.CUDA_HOME = before


def _joined(first: list[Path], then: str | None) -> str:
    """Join folders and the previous value of a path variable."""
    return os.pathsep.join([*map(str, first), *([then] if then else [])])


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Change environment variables temporarily."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
