"""The run-time needs no PyTorch, and every module and command loads."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pnp_ovss.engine
import pnp_ovss.export
import pnp_ovss.kernels
import pytest

HEAVY = {"torch", "transformers", "scipy", "onnx", "onnx_ir", "benchmarks"}
MODULES = [
    module.name
    for package in (pnp_ovss.engine, pnp_ovss.export, pnp_ovss.kernels)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("module", MODULES)
def test_module_imports(module: str):
    importlib.import_module(module)


def test_run_time_imports_no_torch():
    """In a fresh interpreter, the whole way from a picture to its files."""
    code = f"""
import sys
for name in {sorted(HEAVY)}:
    sys.modules[name] = None  # an import of it fails
import importlib, tempfile
for module in {[m for m in MODULES if not m.startswith("pnp_ovss.export")]}:
    importlib.import_module(module)
from pnp_ovss.engine.cli import main
with tempfile.TemporaryDirectory() as folder:
    assert main(["demo", "-o", folder]) == 0
loaded = {sorted(HEAVY)} & {{name for name, module in sys.modules.items() if module}}
""".replace("loaded = [", "loaded = set([").replace("] & {", "]) & {")
    code += "assert not loaded, loaded\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["demo", "segment", "export", "doctor"])
def test_help_of_every_command(command: str, capsys):
    from pnp_ovss.engine.cli import main

    assert main([command, "--help"]) == 0
    assert "Usage: pnp-ovss" in capsys.readouterr().out
