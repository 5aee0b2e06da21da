"""Results on disk, a row a line of JSON, and the machine they were measured on."""

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
    """The rows, each written as a line of JSON as soon as it is measured.

    Until the last one they are in `<name>.partial`: what stops halfway leaves the file as it was.

    Raises:
        InputError: there are none.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    kept = []
    for row in rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as file:
            file.write(msgspec.json.encode(row) + b"\n")
        kept.append(row)
    if not kept:
        raise InputError("nothing of what was named can be measured", "name something else")
    partial.replace(path)
    return kept


def read(path: Path) -> Rows:
    """Rows that were recorded."""
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def machine(device: str = "cpu") -> dict[str, Any]:
    """Describe this machine: processor, GPU, versions of Python and packages, date."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (one.partition(":") for one in lines)}
    flags = fields.get("flags", "").split()
    found: dict[str, Any] = {
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

        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
    return found


def describe(found: dict[str, Any], *packages: str) -> str:
    """A machine in a line, with the versions of some packages; by default all."""
    own = found["packages"]
    versions = ", ".join(f"{name} {own[name]}" for name in packages or own if name in own)
    instructions = f" ({', '.join(found['instructions'])})" if found["instructions"] else ""
    place = f"{found['processor']}, {found['processors']} processors{instructions}"
    if "gpu" in found:
        place = f"{found['gpu']}, CUDA {found['cuda']}; {place}"
    return f"{place}, Python {found['python']}, {versions}, {found['date']}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
