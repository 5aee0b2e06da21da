from __future__ import annotations

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from pnp_ovss.engine import BackendError, ModelError, Segmenter, Settings
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.builds import Recipe
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.runners import AUTO, BACKENDS, Runners, open_runner, open_runners
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.export.build.store import build_once
from tests.engine.model.test_folder import edit_manifest
from tests.engine.runners import stand_ins
from tests.feeds import graph_file

no_gpu_build = pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this ONNX Runtime has CUDA"
)
COMMAND = re.compile(r"pip install |pnp-ovss build '")

NOW = ("vision", "salience")


@pytest.fixture
def model(model_copy: Path) -> ModelFolder:
    return open_model(model_copy)


def built(
    model: ModelFolder, target: str, graph: str, *, content: bytes = b"none", **changes: Any
) -> None:
    """A record of a build, and a file that is none unless its content is given."""
    fields: dict[str, Any] = {
        "target": target,
        "graph": graph,
        "precision": "fp16",
        "graph_sha256": builds.graph_sha256(model, graph),
        "profiles": builds.profiles(model.graph(graph), [1]),
        "architectures": ["sm_89"],
        "version": "1.7.1.116",
    }

    def build(path: Path) -> None:
        path.write_bytes(content)

    build_once(model, Recipe(**fields | changes), build)


MISSING = {
    "onnxruntime": "CUDAExecutionProvider on cuda:0: this build of it has none",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider on cuda:0: this build of it has none",
    "onnxruntime-tensorrt-rtx": "No module named 'onnxruntime_ep_nv_tensorrt_rtx'",
    "tensorrt": "tensorrt is not installed|has no tensorrt build of vision",
    "tensorrt-rtx": "tensorrt-rtx is not installed|has no tensorrt-rtx build of vision",
    "aotinductor": "has no aotinductor build of vision",
    "openvino": "backend 'openvino' runs on the CPU, and the device is cuda:0",
}


@no_gpu_build
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_that_is_missing_is_an_error_with_a_command(
    model: ModelFolder, backend: str
) -> None:
    with pytest.raises(BackendError) as caught:
        open_runner(model, "vision", backend=backend, device=stand_ins.device())
    assert re.search(MISSING[backend], caught.value.cause)
    assert COMMAND.search(caught.value.cure)


@pytest.mark.parametrize("precision", BACKENDS["openvino"].precisions)
def test_the_build_that_is_told_of_can_be_made(model: ModelFolder, precision: Any) -> None:
    """There is none in int8."""
    with pytest.raises(BackendError, match="'openvino' runs on the CPU") as caught:
        open_runner(
            model, "vision", backend="openvino", device=stand_ins.device(), precision=precision
        )
    build = f"pnp-ovss build '{model.path}' --target aotinductor --device cuda:0"
    assert caught.value.cure == f"take --device cpu, or --backend aotinductor: {build}"


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "openvino"])
def test_a_precision_that_is_missing_is_an_error_with_a_command(
    model: ModelFolder, backend: str, precision: Any
) -> None:
    with pytest.raises(BackendError) as caught:
        open_runner(
            model, "vision", backend=backend, device=stand_ins.device(), precision=precision
        )
    assert COMMAND.search(caught.value.cure)
    assert precision in str(caught.value) or "is not installed" in caught.value.cause


@pytest.mark.parametrize(
    "backend", ["onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx", "tensorrt-rtx"]
)
def test_a_backend_of_gpus_on_the_cpu(model: ModelFolder, backend: str) -> None:
    with pytest.raises(BackendError, match=f"{backend!r} runs on NVIDIA GPUs") as caught:
        open_runners(model, NOW, backend=backend, device="cpu")
    assert "--device cuda" in caught.value.cure


def test_a_backend_that_is_none(model: ModelFolder) -> None:
    with pytest.raises(BackendError, match="unknown backend 'abacus'") as caught:
        open_runner(model, "vision", backend="abacus")
    assert all(name in caught.value.cure for name in BACKENDS)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_build_of_another_version_is_refused(model: ModelFolder, name: str) -> None:
    pytest.importorskip(name.replace("-", "_"))
    built(model, name, "vision", version="0.1")
    with pytest.raises(BackendError, match=r"was built by .* 0\.1; installed is") as caught:
        open_runner(model, "vision", backend=name, device=stand_ins.device())
    assert COMMAND.search(caught.value.cure)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_build_whose_library_is_missing(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    built(model, name, "vision")
    with pytest.raises(BackendError, match=f"^{name} is not installed") as caught:
        open_runner(model, "vision", backend=name, device=stand_ins.device())
    assert f"pip install --upgrade 'pnp-ovss[{name}]'" in caught.value.cure


def test_on_the_cpu_auto_is_the_faster_one(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where builds for GPUs were made."""
    pytest.importorskip("openvino")
    from pnp_ovss.engine.runners.openvino import OpenVinoRunner

    for graph in ("vision", "salience"):
        built(model, "tensorrt-rtx", graph)
    runners = open_runners(model, NOW, device="cpu")
    assert runners.device is CPU
    assert list(runners.loaded) == ["vision", "salience"]
    assert all(isinstance(one, OpenVinoRunner) for one in runners.loaded.values())
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "pnp_ovss.engine.runners.openvino", raising=False)
    runners = open_runners(model, NOW, device="cpu")
    assert list(runners.loaded) == ["vision", "salience"]
    assert all(isinstance(one, OnnxRuntimeRunner) for one in runners.loaded.values())


def refuse(monkeypatch: pytest.MonkeyPatch, *backends: str) -> None:
    """Let backends find the graph damaged."""
    for name in backends:

        def refused(*_: object, name: str = name) -> None:
            raise ModelError(f"{name} cannot load the graph", "export the model again")

        monkeypatch.setitem(BACKENDS, name, BACKENDS[name]._replace(open=refused))


def test_a_graph_that_one_backend_refuses_is_run_by_the_next(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "openvino")
    placement = open_runners(model, NOW, device="cpu").placement
    assert placement.backend == "onnxruntime"
    last = placement.passed_over[-1]
    assert (last.backend, last.severity) == ("openvino", "warning")
    assert (last.reason, last.cure) == ("openvino cannot load the graph", "export the model again")


def test_a_graph_that_every_backend_refuses_is_the_models_fault(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "openvino", "onnxruntime")
    with pytest.raises(ModelError, match="onnxruntime cannot load the graph"):
        open_runners(model, NOW, device="cpu")


@pytest.mark.usefixtures("no_openvino")
def test_low_precision_on_the_cpu_says_what_has_it(model: ModelFolder) -> None:
    for precision in ("bf16", "int8"):
        with pytest.raises(BackendError, match="OpenVINO is not installed") as caught:
            open_runners(model, NOW, device="cpu", precision=precision)
        assert caught.value.cure == "pip install 'pnp-ovss[openvino]'"


def test_half_precision_on_the_cpu_takes_a_build(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO and ONNX Runtime have none, and are no cure."""
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError) as caught:
        open_runners(model, NOW, precision="fp16")
    assert caught.value.cause == (
        "no backend runs this model here in fp16: cuda:0: CuPy is not installed;"
        " aotinductor on cpu: no build of vision"
    )
    build = f"pnp-ovss build '{model.path}' --target aotinductor --device cpu --precision fp16"
    assert caught.value.cure == build


def test_a_gpu_has_no_int8(model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pnp_ovss.engine.runners.open_device", lambda _: stand_ins.device())
    with pytest.raises(BackendError, match=r"^no backend .* on cuda in int8\n") as caught:
        open_runners(model, NOW, device="cuda", precision="int8")
    assert caught.value.cure == "take --device cpu"


def test_a_backend_of_gpus_where_there_is_none(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match=r"^backend 'tensorrt' .*: CuPy is not inst") as caught:
        open_runners(model, NOW, backend="tensorrt")
    assert caught.value.cure == "pip uninstall -y onnxruntime && pip install 'pnp-ovss[gpu]'"


def test_a_backend_of_the_cpu_alone_does_not_wait_for_a_gpu(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("pnp_ovss.engine.runners.usable_devices", None)
    placement = open_runners(model, NOW, backend="openvino").placement
    assert (placement.device, placement.backend, placement.passed_over) == ("cpu", "openvino", ())


def test_auto_prefers_what_was_built(model: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a GPU: builds, then ONNX Runtime; then the CPU."""
    device = stand_ins.device()
    monkeypatch.setattr("pnp_ovss.engine.runners.usable_devices", lambda _: [device, CPU])
    tried: list[tuple[str, str]] = []

    def refuse(model: ModelFolder, graph: str, device: Any, *_: Any, name: str) -> Any:
        tried.append((name, device.name))
        raise BackendError(name)

    for name, one in BACKENDS.items():
        monkeypatch.setitem(BACKENDS, name, one._replace(open=partial(refuse, name=name)))
    with pytest.raises(BackendError, match=r"^no backend runs this model here: ") as caught:
        open_runners(model, NOW)
    on_gpu = ("tensorrt", "tensorrt-rtx", "aotinductor", "onnxruntime")
    on_cpu = ("aotinductor", "openvino", "onnxruntime")
    wanted = [(name, "cuda:0") for name in on_gpu] + [(name, "cpu") for name in on_cpu]
    assert tried == wanted
    assert {name for name, _ in tried} == set(AUTO)
    assert all(f"{name} on {place}: {name}" in caught.value.cause for name, place in wanted)


def test_a_graph_is_freed_where_the_other_cannot_be_had(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[OnnxRuntimeRunner] = []

    onnxruntime = BACKENDS["onnxruntime"]

    def open_(model: ModelFolder, graph: str, *_: object) -> OnnxRuntimeRunner:
        if graph == "salience":
            raise BackendError("no such graph")
        opened.append(OnnxRuntimeRunner(model.graph_path(graph)))
        return opened[-1]

    monkeypatch.setitem(BACKENDS, "onnxruntime", onnxruntime._replace(open=open_))
    with pytest.raises(BackendError, match="no such graph"):
        open_runners(model, NOW, backend="onnxruntime", device="cpu")
    assert opened[0]._session is None


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, OnnxRuntimeRunner]]:
    """The graphs that ONNX Runtime opens, from now on."""
    found: list[tuple[str, OnnxRuntimeRunner]] = []
    onnxruntime = BACKENDS["onnxruntime"]

    def spy(model: ModelFolder, graph: str, *rest: Any) -> Any:
        runner: Any = onnxruntime.open(model, graph, *rest)
        found.append((graph, runner))
        return runner

    monkeypatch.setitem(BACKENDS, "onnxruntime", onnxruntime._replace(open=spy))
    return found


def test_the_encoder_of_tokens_is_loaded_when_it_is_needed(
    model: ModelFolder, opened: list[tuple[str, OnnxRuntimeRunner]], picture: Any
) -> None:
    """Once, whatever thread is the first; and freed with the others."""
    with Segmenter.load(model.path, backend="onnxruntime", device="cpu") as segmenter:
        for drop_mode in ("pixels", "attention"):
            segmenter.segment(picture(), ["cat"], settings=Settings(drop_mode=drop_mode, crf=None))
        assert [graph for graph, _ in opened] == ["vision", "salience"]
        settings = Settings(drop_mode="tokens", crf=None)
        with ThreadPoolExecutor(4) as threads:
            done = [
                threads.submit(segmenter.segment, picture(), ["cat"], settings=settings)
                for _ in range(8)
            ]
        assert len({one.result().labels.tobytes() for one in done}) == 1
        assert [graph for graph, _ in opened] == ["vision", "salience", "vision_tokens"]
        assert all(runner._session for _, runner in opened)
    assert not any(runner._session for _, runner in opened)


def test_a_model_of_an_earlier_version(model_copy: Path, picture: Any) -> None:
    """It has no encoder of tokens, and does all else."""
    file = graph_file(model_copy, "vision_tokens")
    name = file.relative_to(model_copy).as_posix()
    edit_manifest(model_copy, lambda manifest: manifest["graphs"].pop("vision_tokens"))
    edit_manifest(model_copy, lambda manifest: manifest["files"].pop(name))
    file.unlink()
    with Segmenter.load(model_copy, device="cpu") as segmenter:
        for drop_mode in ("pixels", "attention"):
            segmenter.segment(picture(), ["cat"], settings=Settings(drop_mode=drop_mode, crf=None))
        with pytest.raises(ModelError, match="has no graph 'vision_tokens'") as caught:
            segmenter.segment(picture(), ["cat"], settings=Settings(drop_mode="tokens"))
    assert caught.value.cure == (
        f"export it again: pnp-ovss export checkpoint -o '{model_copy}' --image-size 96 --overwrite"
    )


def test_a_build_of_the_encoder_of_tokens_is_missed_when_it_is_needed(model: ModelFolder) -> None:
    """Nothing else takes its place, and the message has the command."""
    device = stand_ins.device()
    load = partial(open_runner, model, backend="aotinductor", device=device)
    runners = Runners(load, device, [])
    with pytest.raises(BackendError, match="no aotinductor build of vision_tokens") as caught:
        runners.run("vision_tokens", {})
    assert caught.value.cure == (
        f"pnp-ovss build '{model.path}' --target aotinductor --device cuda:0 --drop-mode tokens"
    )


@pytest.mark.timing
def test_what_is_not_built_costs_nothing(model: ModelFolder) -> None:
    """No library is imported, and nothing waits."""
    code = f"""
import sys
from pnp_ovss.engine.errors import BackendError
from pnp_ovss.engine.runners import open_runner
from pnp_ovss.engine.device import Device
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.kernels.cpu import kernels
gpu = Device("cuda:0", 0, None, kernels, None, "sm_89")
model = open_model({str(model.path)!r})
for backend in ("tensorrt", "tensorrt-rtx"):
    try:
        open_runner(model, "vision", backend=backend, device=gpu)
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
            open_runner(model, "vision", backend=name, device=stand_ins.device())
    assert time.perf_counter() - start < 0.1


def test_a_segmenter_takes_any_backend_by_name(model: ModelFolder) -> None:
    with pytest.raises(BackendError, match="'onnxruntime-tensorrt' runs on NVIDIA GPUs"):
        Segmenter.load(model.path, backend="onnxruntime-tensorrt", device="cpu")
