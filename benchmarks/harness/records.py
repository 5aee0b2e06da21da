"""Records results on disk, each row a line of JSON, and describes the machine."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pnp_ovss.engine.errors import InputError
from pnp_ovss.engine.processors import processors

RESULTS = Path(__file__).parents[1] / "results"
_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_PACKAGES = (
    "pnp-ovss",
    "torch",
    "transformers",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "cupy-cuda13x",
    "numpy",
    "pydensecrf2",
)

AnyRow = TypeVar("AnyRow")
Rows = list[dict[str, Any]]


def recorded(rows: Iterable[AnyRow], path: Path) -> list[AnyRow]:
    """Record each row as a line of JSON as soon as it is measured.

    Rows go to `<name>.partial`, which replaces the file after the last row. A measurement that
    stops halfway leaves the file unchanged.

    Args:
        rows: Rows; each may take long to measure.
        path: File of the rows.

    Returns:
        All rows.

    Raises:
        InputError: No row was measured.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    written = []
    for row in rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")
        written.append(row)
    if not written:
        raise InputError(
            f"nothing was measured for '{path}'", "name other contenders, or leave the option out"
        )
    partial.replace(path)
    return written


def read(path: Path) -> Rows:
    """Read recorded rows."""
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def machine(device: str = "cpu") -> dict[str, Any]:
    """Collect facts of this machine: processor, GPU, versions of Python and packages, date."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    pairs = (line.partition(":") for line in lines)
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    flags = fields.get("flags", "").split()
    facts: dict[str, Any] = {
        "processor": fields.get("model name", platform.processor()),
        "processors": processors(),
        "instructions": [flag for flag in _CPU_FLAGS if flag in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: number for name in _PACKAGES if (number := _version(name))},
        "date": date.today().isoformat(),
    }
    if device != "cpu":
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    return facts


def describe(facts: dict[str, Any], *packages: str) -> str:
    """Describe a machine in one line.

    Args:
        facts: Facts of the machine, from `machine`.
        packages: Packages whose versions are named; by default all.
    """
    installed = facts["packages"]
    shown = [name for name in packages or installed if name in installed]
    versions = ", ".join(f"{name} {installed[name]}" for name in shown)
    instructions = f" ({', '.join(facts['instructions'])})" if facts["instructions"] else ""
    hardware = f"{facts['processor']}, {facts['processors']} processors{instructions}"
    if "gpu" in facts:
        hardware = f"{facts['gpu']}, CUDA {facts['cuda']}; {hardware}"
    return f"{hardware}, Python {facts['python']}, {versions}, {facts['date']}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
