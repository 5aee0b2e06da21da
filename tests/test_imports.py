"""The run-time needs no PyTorch, and every module and command loads."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks
import pnp_ovss.engine
import pnp_ovss.export
import pnp_ovss.kernels

HEAVY = {
    "benchmarks",
    "filelock",
    "matplotlib",
    "onnx",
    "onnx_ir",
    "scipy",
    "tensorrt",
    "tensorrt_rtx",
    "torch",
    "transformers",
}
LIGHT = ("pnp_ovss.engine", "pnp_ovss.kernels")
EVALUATE = {"pnp_ovss.engine.evaluation.attention", "pnp_ovss.engine.evaluation.figures"}
"""What only some options of `evaluate` import, as it takes the extra of that name."""
MODULES = [
    module.name
    for package in (benchmarks, pnp_ovss.engine, pnp_ovss.export, pnp_ovss.kernels)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.startswith("pnp_ovss.kernels._")  # a C library
    and not module.name.endswith("__main__")
]


@pytest.mark.parametrize("module", MODULES)
def test_module_imports(module: str):
    importlib.import_module(module)


def test_run_time_imports_no_torch():
    """In a fresh interpreter, the whole way from a picture to its files."""
    packages = [name for name in MODULES if name.startswith(LIGHT) and name not in EVALUATE]
    code = f"""
import importlib, sys, tempfile
for name in {HEAVY}:
    sys.modules[name] = None  # an import of it fails
for module in {packages}:
    importlib.import_module(module)
from pnp_ovss.engine.cli import main
with tempfile.TemporaryDirectory() as folder:
    assert main(["demo", "-o", folder]) == 0
assert main(["evaluate", "stickers", "--images", "1"]) == 0
assert not [name for name in {HEAVY} if sys.modules[name]]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_reported_to_anyone(tmp_path: Path):
    """ONNX Runtime keeps its telemetry in the user's cache; with it off there is nothing there."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    code = f"from pnp_ovss.engine.cli import main; main(['demo', '-o', {str(tmp_path / 'out')!r}])"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("command", ["demo", "segment", "export", "build", "evaluate", "doctor"])
def test_help_of_every_command(command: str, capsys):
    from pnp_ovss.engine.cli import main

    assert main([command, "--help"]) == 0
    assert "Usage: pnp-ovss" in capsys.readouterr().out
