from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest
from pnp_ovss.engine import BackendError, Segmenter, engines
from pnp_ovss.engine.artifact import SALIENCE, VISION, Artifact, open_artifact
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.engines import Recipe
from pnp_ovss.engine.runners import AUTO, BACKENDS, open_runner, open_runners
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.engine.runners.openvino import OpenVinoRunner
from pnp_ovss.export.engines import build_once

from tests.engine.runners import stand_ins

no_gpu_build = pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this ONNX Runtime has CUDA"
)
COMMAND = re.compile(r"pip install |pnp-ovss build '")


@pytest.fixture
def model(model_copy: Path) -> Artifact:
    return open_artifact(model_copy)


def built(model: Artifact, target: str, graph: str, **changes: Any) -> None:
    """A record of an engine, and a file that is none."""
    fields: dict[str, Any] = {
        "target": target,
        "graph": Path(graph).stem,
        "precision": "fp16",
        "graph_sha256": engines.graph_sha256(model.manifest, graph),
        "profiles": engines.profiles(graph, [1], [16]),
        "architectures": ["sm_89"],
        "version": "1.7.1.116",
    }

    def build(path: Path) -> None:
        path.write_bytes(b"none")

    build_once(model, Recipe(**fields | changes), build)


MISSING = {
    "onnxruntime": "CUDAExecutionProvider on cuda:0: this build of it has none",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider on cuda:0: this build of it has none",
    "onnxruntime-tensorrt-rtx": "No module named 'onnxruntime_ep_nv_tensorrt_rtx'",
    "tensorrt": "tensorrt is not installed|no tensorrt engine of vision was built",
    "tensorrt-rtx": "tensorrt-rtx is not installed|no tensorrt-rtx engine of vision was built",
    "aotinductor": "no aotinductor engine of vision was built",
    "openvino": "backend 'openvino' runs on the CPU, and the device is cuda:0",
}


@no_gpu_build
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_that_is_missing_is_an_error_with_a_command(
    model: Artifact, backend: str
) -> None:
    with pytest.raises(BackendError) as caught:
        open_runner(model, VISION, backend=backend, device=stand_ins.device())
    assert re.search(MISSING[backend], caught.value.cause)
    assert COMMAND.search(caught.value.cure)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "openvino"])
def test_a_precision_that_is_missing_is_an_error_with_a_command(
    model: Artifact, backend: str, precision: Any
) -> None:
    with pytest.raises(BackendError) as caught:
        open_runner(model, VISION, backend=backend, device=stand_ins.device(), precision=precision)
    assert COMMAND.search(caught.value.cure)
    assert precision in str(caught.value) or "is not installed" in caught.value.cause


@pytest.mark.parametrize(
    "backend", ["onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx", "tensorrt-rtx"]
)
def test_a_backend_of_gpus_on_the_cpu(model: Artifact, backend: str) -> None:
    if backend == "tensorrt-rtx":
        pytest.importorskip("tensorrt_rtx")
    with pytest.raises(BackendError, match=f"{backend!r} runs on NVIDIA GPUs") as caught:
        open_runners(model, backend=backend, device="cpu")
    assert "--device cuda" in caught.value.cure


def test_a_backend_that_is_none(model: Artifact) -> None:
    with pytest.raises(BackendError, match="unknown backend 'abacus'") as caught:
        open_runner(model, VISION, backend="abacus")
    assert all(name in caught.value.cure for name in BACKENDS)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_of_another_version_is_refused(model: Artifact, name: str) -> None:
    pytest.importorskip(name.replace("-", "_"))
    built(model, name, VISION, version="0.1")
    with pytest.raises(BackendError, match=r"was built by .* 0\.1; installed is") as caught:
        open_runner(model, VISION, backend=name, device=stand_ins.device())
    assert COMMAND.search(caught.value.cure)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_whose_library_is_missing(
    model: Artifact, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    built(model, name, VISION)
    with pytest.raises(BackendError, match=f"^{name} is not installed") as caught:
        open_runner(model, VISION, backend=name, device=stand_ins.device())
    assert f"pip install --upgrade 'pnp-ovss[{name}]'" in caught.value.cure


def test_on_the_cpu_auto_is_the_faster_one(
    model: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where engines were built."""
    for graph in (VISION, SALIENCE):
        built(model, "tensorrt-rtx", graph)
    assert all(isinstance(one, OpenVinoRunner) for one in open_runners(model, device="cpu"))
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "pnp_ovss.engine.runners.openvino")
    assert all(isinstance(one, OnnxRuntimeRunner) for one in open_runners(model, device="cpu"))


def test_low_precision_on_the_cpu_says_what_has_it(
    model: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "pnp_ovss.engine.runners.openvino")
    for precision in ("bf16", "int8"):
        with pytest.raises(BackendError) as caught:
            open_runners(model, device="cpu", precision=precision)
        assert "pip install 'pnp-ovss[openvino]'" in caught.value.cure


def test_auto_prefers_what_was_built(model: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a GPU: engines, then ONNX Runtime; then the CPU."""
    device = stand_ins.device()
    monkeypatch.setattr("pnp_ovss.engine.runners.usable_devices", lambda: [device, CPU])
    tried: list[tuple[str, str]] = []

    def refuse(model: Artifact, graph: str, device: Any, precision: str, *, name: str) -> Any:
        tried.append((name, device.name))
        raise BackendError(name)

    for name in BACKENDS:
        monkeypatch.setitem(BACKENDS, name, lambda *args, name=name: refuse(*args, name=name))
    with pytest.raises(BackendError, match=r"^onnxruntime$"):
        open_runners(model)
    assert tried == [(name, place) for place in ("cuda:0", "cpu") for name in AUTO]


def test_a_graph_is_freed_where_the_other_cannot_be_had(
    model: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[OnnxRuntimeRunner] = []

    def open_(model: Artifact, graph: str, *_: object) -> OnnxRuntimeRunner:
        if graph == SALIENCE:
            raise BackendError("no such graph")
        opened.append(OnnxRuntimeRunner(model.path / graph))
        return opened[-1]

    monkeypatch.setitem(BACKENDS, "onnxruntime", open_)
    with pytest.raises(BackendError, match="no such graph"):
        open_runners(model, backend="onnxruntime", device="cpu")
    assert opened[0]._session is None


def test_what_is_not_built_costs_nothing(model: Artifact) -> None:
    """No library is imported, and nothing waits."""
    code = f"""
import sys
from pnp_ovss.engine import artifact
from pnp_ovss.engine.errors import BackendError
from pnp_ovss.engine.runners import open_runner
from pnp_ovss.engine.device import Device
from pnp_ovss.kernels import reference
gpu = Device("cuda:0", 0, None, reference, None, "sm_89")
model = artifact.open_artifact({str(model.path)!r})
for backend in ("tensorrt", "tensorrt-rtx"):
    try:
        open_runner(model, artifact.VISION, backend=backend, device=gpu)
    except BackendError:
        continue
    raise AssertionError(backend)
heavy = {{"tensorrt", "tensorrt_rtx", "onnxruntime_ep_nv_tensorrt_rtx"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    start = time.perf_counter()
    for name in ("tensorrt", "tensorrt-rtx"):
        with pytest.raises(BackendError):
            open_runner(model, VISION, backend=name, device=stand_ins.device())
    assert time.perf_counter() - start < 0.1


def test_a_segmenter_takes_any_backend_by_name(model: Artifact) -> None:
    with pytest.raises(BackendError, match="'onnxruntime-tensorrt' runs on NVIDIA GPUs"):
        Segmenter.load(model.path, backend="onnxruntime-tensorrt", device="cpu")
