"""What the C++ of a package for a GPU needs: CUDA's headers, and the driver's library.

PyTorch's own wheels bring most of the headers, but not all, and the driver brings `libcuda.so.1`,
while the linker looks for `libcuda.so`. So PyTorch's compiler fails where nothing but pip was used,
unless it is told where all of it is.
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
_FOLDERS = ("include", "include/cccl")  # CUDA 13 has moved some into the second
_STUBS = ("lib64/stubs", "lib/stubs", "targets/x86_64-linux/lib/stubs")
MAPS = Path("/proc/self/maps")
INSTALLED = Path("/usr/local/cuda")
_CURE = (
    "pip install 'pnp-ovss[aotinductor]', or name a CUDA toolkit: export CUDA_HOME=/usr/local/cuda"
)


@dataclass(frozen=True)
class Toolkit:
    """Where CUDA's headers are.

    Attributes:
        home: what `CUDA_HOME` should say.
        includes: folders of it that hold headers.
    """

    home: Path
    includes: list[Path]

    @property
    def missing(self) -> list[str]:
        """Headers that it has not."""
        return [
            name for name in _HEADERS if not any((one / name).exists() for one in self.includes)
        ]


def find_toolkit() -> Toolkit:
    """The first that is whole: of `CUDA_HOME`, else of pip's packages, `nvcc` and /usr/local/cuda.

    Raises:
        BackendError: there is none.
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
    """Of folders that are one toolkit together."""
    includes = [home / folder for home in homes for folder in _FOLDERS]
    return Toolkit(homes[0], [folder for folder in includes if folder.is_dir()])


def _candidates() -> list[list[Path]]:
    """The folders of what may be a toolkit, best first.

    pip's packages of one version of CUDA may be in several folders of Python's path.
    """
    if named := os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH"):
        return [[Path(named)]]
    spec = importlib.util.find_spec("nvidia")
    packages = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    homes = [home for place in packages for home in place.glob("cu[0-9]*")]
    homes.sort(key=lambda home: not (home / "include" / _HEADERS[0]).exists())  # PyTorch's first
    versions = sorted({home.name for home in homes}, reverse=True)
    candidates = [[home for home in homes if home.name == version] for version in versions]
    if nvcc := shutil.which("nvcc"):
        candidates.append([Path(nvcc).resolve().parents[1]])
    if INSTALLED.is_dir():
        candidates.append([INSTALLED])
    return candidates


def driver(home: Path) -> Path:
    """The library to link with: a stub of the toolkit's, else what this process has loaded.

    Raises:
        BackendError: there is none.
    """
    for folder in _STUBS:
        if (stub := home / folder / "libcuda.so").exists():
            return stub
    lines = MAPS.read_text().splitlines() if MAPS.exists() else []
    loaded = [line.split(maxsplit=5)[-1] for line in lines if "/libcuda.so" in line]
    if not loaded:
        raise BackendError(
            "NVIDIA's driver is not loaded, and there is no stub of it to link with",
            "check the driver with nvidia-smi",
        )
    return Path(loaded[0])


@contextmanager
def compiling_for_cuda() -> Iterator[None]:
    """Let PyTorch's C++ compiler find headers and driver meanwhile, in this process's environment.

    Raises:
        BackendError: some of it is missing.
    """
    from torch.utils import cpp_extension

    toolkit = find_toolkit()
    library = driver(toolkit.home)
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
    return os.pathsep.join([*map(str, first), *([then] if then else [])])


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
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
