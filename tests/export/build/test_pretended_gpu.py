"""The graphs compiled for an H100 that is not there: what breaks or swells the build is seen."""

from __future__ import annotations

import multiprocessing
import os
import struct
import subprocess
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch._inductor.utils import fresh_cache
from torch.utils import cpp_extension

from benchmarks.harness import models
from pnp_ovss.engine.errors import BackendError
from pnp_ovss.engine.model.folder import DEMO, find_model, open_model
from pnp_ovss.export.build import aotinductor, cuda_toolkit
from pnp_ovss.export.graphs.loading import load
from pnp_ovss.export.graphs.precision import convert
from tests import thresholds
from tests.export.build.pretended_gpu import ARCHITECTURE, DEVICE, pretended_gpu

pytest.importorskip("triton")

IDS = ["vision", "salience"]

# A build of PyTorch for CPUs lacks the libraries of the host code, which is then not compiled.
_HOST_CODE_IS_NOT_COMPILED = {"aot_inductor.package_cpp_only": True}


def compile_graph(folder: Path, graph: str, path: Path) -> None:
    """Compile a graph of a model folder in bf16, as a package at `path`, in a folder of its own."""
    model = open_model(folder, verify=False)
    source = convert(load(model.graph_path(graph)), "bf16")
    options = {"aot_inductor.package_constants_in_so": False}  # weights are fake
    with ExitStack() as stack:
        if torch.version.cuda:
            stub = path.with_name("libcuda.so")
            words = ["c++", "-shared", "-Wl,-soname,libcuda.so.1", "-x", "c++", "/dev/null"]
            subprocess.run([*words, "-o", stub], check=True)
            stack.enter_context(patch.object(cuda_toolkit, "driver_library", lambda _: stub))
            stack.enter_context(cuda_toolkit.compiling_for_cuda())
        else:
            stack.enter_context(patch.object(cpp_extension, "CUDA_HOME", str(path.parent)))
            options |= _HOST_CODE_IS_NOT_COMPILED
        stack.enter_context(fresh_cache(dir=str(path.parent)))
        stack.enter_context(pretended_gpu(options))
        aotinductor.compile_graph(source, model.graph(graph), DEVICE, path)


def check(
    folder: Path, graph: str, kernels: int, path: Path, record: Callable[[str, object], None]
) -> None:
    if torch.version.cuda:
        try:
            cuda_toolkit.find_toolkit()
        except BackendError as error:
            pytest.skip(str(error))
    began, worked = time.monotonic(), sum(os.times()[:4])
    # in a process of its own: what PyTorch has found out about a machine, it keeps
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as process:
        process.submit(compile_graph, folder, graph, path).result()
    seconds, work = time.monotonic() - began, sum(os.times()[:4]) - worked
    with zipfile.ZipFile(path) as package:
        code = {name: package.read(name) for name in package.namelist() if name.endswith(".cubin")}
    facts = f"{graph}: {len(code)} kernels, {seconds:.0f} s, {work:.0f} s of the processors"
    record("built", facts)
    print(facts)
    assert {architecture(binary) for binary in code.values()} == {ARCHITECTURE}
    assert kernels * 0.7 <= len(code) <= kernels * thresholds.KERNELS


def architecture(cubin: bytes) -> int:
    """Of a kernel: an ELF file, in whose flags it is, from version 8 on a byte higher."""
    assert cubin[:4] == b"\x7fELF"
    flags, version = struct.unpack_from("<I", cubin, 48)[0], cubin[8]
    return flags >> (8 if version >= 8 else 0) & 0xFF


@pytest.mark.parametrize(
    ("graph", "kernels"),
    [
        pytest.param("vision", 11, marks=pytest.mark.slow),
        pytest.param("salience", 41, marks=pytest.mark.long),
    ],
    ids=["vision", "salience"],
)
def test_the_demo_model_compiles(graph: str, kernels: int, tmp_path: Path, record_property):
    folder = find_model(DEMO)
    check(folder, graph, kernels, tmp_path / "graph.pt2", record_property)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BLIP-large's shape."""
    folder = tmp_path_factory.mktemp("large")
    made = models.prepare(
        "random:blip-large", image_size=336, device="cpu", folder=folder, say=lambda _: None
    )
    return made.folder


@pytest.mark.long
@pytest.mark.parametrize(
    ("graph", "kernels"),
    [("vision", 11), ("salience", 40)],
    ids=["vision", "salience"],
)
def test_blip_large_compiles(
    graph: str, kernels: int, large: Path, tmp_path: Path, record_property
):
    check(large, graph, kernels, tmp_path / "graph.pt2", record_property)
