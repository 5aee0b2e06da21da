"""A real Triton Inference Server for tests: the one that the package nvidia-pytriton bundles.

It runs without a GPU, and has one backend, that of models in Python. So its core checks any
configuration, and it serves a graph where a few lines of Python stand for the backend onnxruntime.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

PACKAGE = "nvidia-pytriton==0.7.0"  # bundles version 2.51 of the server
PACKAGES = ("numpy<2", "onnxruntime")  # of models in Python; with NumPy 2 their outputs are empty
READY = 60  # seconds

needs_server = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64") or sys.version_info >= (3, 13),
    reason=f"{PACKAGE} is for Linux on x86-64, and its Python needs NumPy 1, as up to Python 3.12",
)
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_STUB = "triton_python_backend_stub"
_ERROR = re.compile(r'^E\d+ \S+ \d+ model_\w+\.cc:\d+\] "(.*)"$', re.MULTILINE)

# What the backend onnxruntime does with a batch: join the requests, run, and part the outputs.
# The server takes no notice of PYTHONPATH.
MODEL_IN_PYTHON = """
import os, sys
from pathlib import Path

sys.path.insert(0, os.environ["PACKAGES"])
import numpy as np
import onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(file, options)

    def execute(self, requests):
        feeds = [{one.name(): one.as_numpy() for one in request.inputs()} for request in requests]
        joined = {name: np.concatenate([one[name] for one in feeds]) for name in feeds[0]}
        ends = np.cumsum([len(one["pixels"]) for one in feeds])[:-1]
        names = [one.name for one in self.session.get_outputs()]
        parts = [np.split(value, ends) for value in self.session.run(names, joined)]
        return [
            triton.InferenceResponse([triton.Tensor(*one) for one in zip(names, outputs)])
            for outputs in zip(*parts)
        ]
"""


def install(folder: Path) -> None:
    """Fetch the server, and unpack it."""
    _pip("download", PACKAGE, "--no-deps", "--only-binary", ":all:", "--dest", str(folder))
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    wheel.unlink()
    home = folder / "pytriton" / "tritonserver"
    python = home / "backends" / "python"
    shutil.copy(home / "python_backend_stubs" / _PYTHON / _STUB, python)
    for program in (home / "bin" / "tritonserver", python / _STUB):
        program.chmod(0o755)


def install_packages(folder: Path) -> None:
    """Fetch what models in Python import."""
    _pip("install", "--only-binary", ":all:", "--target", str(folder), *PACKAGES)


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"cannot be fetched: {' '.join(words)}\n{done.stderr}"


def complaints(server: Path, repository: Path) -> list[str]:
    """What the server's core says against the models of a repository, none of which it can load."""
    done = subprocess.run(
        _command(server, repository, "--allow-grpc", "false"),
        env=_environment(server),
        capture_output=True,
        text=True,
        timeout=READY,
    )
    assert "failed to load all models" in done.stdout + done.stderr
    return _ERROR.findall(done.stderr + done.stdout)


@contextmanager
def serving(server: Path, packages: Path, repository: Path) -> Iterator[str]:
    """Serve the models of a repository by gRPC, and give the server's address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    words = ("--grpc-address", "127.0.0.1", "--grpc-port", str(port))
    environment = {**_environment(server), "PACKAGES": str(packages)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            _command(server, repository, *words), env=environment, stdout=log, stderr=log
        )
        try:
            if not _is_ready(address, process):
                log.seek(0)
                pytest.fail(log.read())
            yield address
        finally:
            process.terminate()
            process.wait(READY)


def _is_ready(address: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server is ready; tell whether it is."""
    deadline = time.monotonic() + READY
    with grpc.InferenceServerClient(address) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if client.is_server_ready():
                    return True
            except InferenceServerException:  # nobody listens yet
                pass
            time.sleep(0.05)
    return False


def _command(server: Path, repository: Path, *words: str) -> list[str]:
    home = server / "pytriton" / "tritonserver"
    return [
        str(home / "bin" / "tritonserver"),
        *("--model-repository", str(repository), "--backend-directory", str(home / "backends")),
        *("--allow-http", "false", "--allow-metrics", "false", *words),
    ]


def _environment(server: Path) -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": str(server / "nvidia_pytriton.libs")}


def in_python(config: str) -> str:
    """Change a configuration to the backend of models in Python, and nothing else of it."""
    for before, after in (('"onnxruntime"', '"python"'), ('"model.onnx"', '"model.py"')):
        assert config.count(before) == 1
        config = config.replace(before, after)
    return config
