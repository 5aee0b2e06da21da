from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
import pytest

from pnp_ovss.engine import BackendError, ExecutionError, ModelError
from pnp_ovss.engine.device import CPU, open_device
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import ModelFolder, open_model, record_of
from pnp_ovss.engine.runners import onnxruntime, open_runner
from pnp_ovss.engine.runners import onnxruntime_sessions as sessions
from pnp_ovss.engine.runners.onnxruntime import Bound, OnnxRuntimeRunner
from pnp_ovss.engine.runners.onnxruntime_sessions import (
    CUDA,
    PROVIDERS,
    TENSORRT_RTX,
    Provider,
    SessionSpec,
)
from tests import thresholds
from tests.conftest import Exported
from tests.engine.model.test_folder import edit_manifest
from tests.engine.runners import stand_ins
from tests.engine.runners.stand_ins import feeds_of
from tests.engine.runners.test_buckets import SHAPES, VOCABULARY, assert_close
from tests.feeds import graph_file


@pytest.fixture
def spec_of(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SessionSpec]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")

    def make(graph: str, *, capture: bool = False) -> SessionSpec:
        model = open_model(exported.folder)
        lengths = {"tokens": (8, 16), "kept": (6, 37)}
        shapes = builds.profiles(model.graph(graph), (1, 4), lengths)
        digest = builds.graph_sha256(model, graph)
        return SessionSpec(model.graph_path(graph), stand_ins.device(), shapes, capture, digest)

    return make


def recorded_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=list(PROVIDERS))
def test_a_provider_that_did_not_load(exported: Exported, provider: Provider) -> None:
    """ONNX Runtime goes on without it."""
    session = recorded_session(graph_file(exported.folder, "vision"))
    with pytest.raises(BackendError, match=f"{provider.name} on cuda:0: it did not load") as caught:
        sessions.check_provider(session, provider, stand_ins.device())
    assert "pip install" in caught.value.cure


def test_a_provider_that_leaves_the_work_to_the_cpu(exported: Exported) -> None:
    """Here the CPU's own, which passes for one that loaded."""
    session = recorded_session(graph_file(exported.folder, "vision"))
    idle = replace(CUDA, name="CPUExecutionProvider")
    with pytest.raises(BackendError, match=r"it leaves \d\d matrix products to the CPU"):
        sessions.check_provider(session, idle, stand_ins.device())


def test_an_onnxruntime_that_is_too_old(
    spec_of: Callable[..., SessionSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "__version__", "1.30.1")
    with pytest.raises(BackendError, match=r"version 1\.30\.1 is too old"):
        sessions.open_on_gpu(TENSORRT_RTX, spec_of("vision"))


def test_a_plugin_that_finds_no_gpu(
    spec_of: Callable[..., SessionSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = SimpleNamespace(get_library_path=lambda: "a.so")
    monkeypatch.setitem(sys.modules, TENSORRT_RTX.plugin, plugin)
    monkeypatch.setattr(sessions, "_register", lambda *_: None)
    with pytest.raises(BackendError, match="it finds 0 GPUs that it can use"):
        sessions.open_on_gpu(TENSORRT_RTX, spec_of("vision"))


def test_a_plugin_that_onnxruntime_refuses(
    spec_of: Callable[..., SessionSpec], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = tmp_path / "libplugin.so"
    library.write_bytes(b"no library")
    plugin = SimpleNamespace(get_library_path=lambda: str(library))
    monkeypatch.setitem(sys.modules, TENSORRT_RTX.plugin, plugin)
    with pytest.raises(BackendError, match="Failed to load library") as caught:
        sessions.open_on_gpu(TENSORRT_RTX, spec_of("vision"))
    assert "pip install --upgrade onnxruntime onnxruntime-ep-nv-tensorrt-rtx-cu13" in str(
        caught.value
    )


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=list(PROVIDERS))
def test_providers_share_the_kernels_stream(
    spec_of: Callable[..., SessionSpec], provider: Provider
) -> None:
    spec = spec_of("vision")
    assert provider.options(spec)["user_compute_stream"] == str(spec.device.stream.ptr)


def test_a_graph_on_a_gpu_gets_shapes_and_roles_from_the_manifest(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        onnxruntime, "OnnxRuntimeRunner", lambda *_, **options: given.update(options)
    )
    model = open_model(exported.folder)
    onnxruntime.open_graph("cuda", model, "salience", stand_ins.device())
    assert given["roles"] == {"batch": "rows", "images": "shared", "tokens": "padded"}
    assert given["digest"] == builds.graph_sha256(model, "salience")
    assert {profile["tokens"] for profile in given["profiles"]} == {16, 32, 64}
    assert {"batch": 16, "images": 1, "tokens": 32} in given["profiles"]


@pytest.mark.parametrize("capture", [False, True])
def test_cuda_graphs_are_recorded_where_asked_for(
    spec_of: Callable[..., SessionSpec], capture: bool
) -> None:
    options = CUDA.options(spec_of("vision", capture=capture))
    assert options["enable_cuda_graph"] == str(int(capture))
    assert options["use_tf32"] == "0"


@pytest.mark.parametrize(
    ("provider", "prefix"), [("tensorrt", "trt_profile"), ("tensorrt-rtx", "nv_profile")]
)
def test_tensorrt_is_told_the_range_of_the_shapes(
    spec_of: Callable[..., SessionSpec], provider: str, prefix: str
) -> None:
    options = PROVIDERS[provider].options(spec_of("salience"))
    low = "image_embeds:1x37x96,input_ids:1x8,attention_mask:1x8,patch_keep:1x36"
    high = "image_embeds:4x37x96,input_ids:4x16,attention_mask:4x16,patch_keep:4x36"
    assert [options[f"{prefix}_{one}_shapes"] for one in ("min", "opt", "max")] == [low, high, high]
    options = PROVIDERS[provider].options(spec_of("vision_tokens"))
    assert options[f"{prefix}_min_shapes"] == "pixel_values:1x3x96x96,kept:1x6"
    assert options[f"{prefix}_max_shapes"] == "pixel_values:4x3x96x96,kept:4x37"


@pytest.mark.parametrize("provider", ["tensorrt", "tensorrt-rtx"])
def test_a_provider_that_would_compute_in_tf32_is_refused(
    spec_of: Callable[..., SessionSpec], provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment of the process is the user's; it is read, and never changed."""
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    with pytest.raises(BackendError, match="TF32") as caught:
        PROVIDERS[provider].options(spec_of("vision"))
    assert "NVIDIA_TF32_OVERRIDE=0" in caught.value.cure
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ


@pytest.mark.parametrize("graph", ["vision", "vision_tokens"])
def test_graphs_of_other_weights_have_other_caches(
    spec_of: Callable[..., SessionSpec],
    model_copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    graph: str,
) -> None:
    """TensorRT's provider would run one with the weights of the other."""

    def cache() -> str:
        """Of the copy, as it is opened."""
        model = open_model(model_copy)
        return cache_of(asked_of(model, graph, monkeypatch))

    folder = cache_of(spec_of(graph))
    assert cache() == folder
    weights = open_model(model_copy).graph(graph).weight_files[0]
    with (model_copy / weights).open("r+b") as file:
        file.write(bytes(4))
    record = msgspec.to_builtins(record_of(model_copy / weights))
    edit_manifest(model_copy, lambda manifest: manifest["files"].update({weights: record}))
    other = cache()
    assert other != folder
    assert Path(other).is_dir()


def cache_of(spec: SessionSpec) -> str:
    return PROVIDERS["tensorrt"].options(spec)["trt_engine_cache_path"]


def asked_of(model: ModelFolder, graph: str, monkeypatch: pytest.MonkeyPatch) -> SessionSpec:
    """What a provider is asked for when a graph of a model is opened."""
    asked: list[SessionSpec] = []

    def opened(_: Provider, spec: SessionSpec) -> ort.InferenceSession:
        asked.append(spec)
        return sessions.open_on_cpu(spec.path)

    monkeypatch.setattr(onnxruntime, "open_on_gpu", opened)
    open_runner(model, graph, backend="onnxruntime-tensorrt", device=stand_ins.device())
    return asked[0]


def test_a_graph_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot load '.*no\.onnx'"):
        OnnxRuntimeRunner(tmp_path / "no.onnx")


def test_a_closed_session(exported: Exported) -> None:
    runner = OnnxRuntimeRunner(graph_file(exported.folder, "vision"))
    runner.close()
    with pytest.raises(ExecutionError, match="was closed"):
        runner.run({})


def test_a_run_that_fails(exported: Exported) -> None:
    runner = OnnxRuntimeRunner(graph_file(exported.folder, "vision"))
    with pytest.raises(ExecutionError, match="ONNX Runtime failed on cpu"):
        runner.run({"pixel_values": np.zeros((1, 3, 8, 8), np.float32)})


class Refusing:
    """A session that cannot record a CUDA graph."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.io_binding = session.io_binding

    def run_with_iobinding(self, binding: ort.IOBinding, options: ort.RunOptions) -> None:
        if options.get_run_config_entry("gpu_graph_id") != "-1":
            raise RuntimeError("operation not permitted when stream is capturing")
        self._session.run_with_iobinding(binding, options)


@pytest.mark.parametrize("refuses", [False, True])
def test_a_session_with_its_arrays(exported: Exported, refuses: bool) -> None:
    """What cannot be recorded runs plainly, and says so."""
    session = ort.InferenceSession(str(graph_file(exported.folder, "vision")))
    arrays = feeds_of(np.random.default_rng(0), SHAPES["vision"], {"batch": 2}, VOCABULARY)
    wanted = session.run(None, arrays)[0]
    outputs = {"image_embeds": np.zeros_like(wanted)}
    bound = Bound(Refusing(session) if refuses else session, CPU, arrays, outputs, graph=3)
    assert bound.captured
    for _ in range(2):
        outputs["image_embeds"].fill(0)
        bound()
        np.testing.assert_array_equal(outputs["image_embeds"], wanted)
        assert bound.captured != refuses


def test_graphs_are_recorded_once_in_each_thread_while_nobody_works_beside_the_model(
    exported: Exported,
) -> None:
    session = ort.InferenceSession(str(graph_file(exported.folder, "vision")))
    arrays = feeds_of(np.random.default_rng(0), SHAPES["vision"], {"batch": 1}, VOCABULARY)
    outputs = {"image_embeds": np.zeros((1, 37, 96), np.float32)}
    device = stand_ins.device()
    bound = Bound(
        session, replace(CPU, _side_streams=device._side_streams), arrays, outputs, graph=0
    )
    bound()
    with device.side_stream(None):
        bound()  # replayed
        recording = threading.Thread(target=bound)
        recording.start()
        recording.join(0.2)
        assert recording.is_alive()
    recording.join(10)
    assert not recording.is_alive()


@pytest.mark.gpu
@pytest.mark.parametrize(
    "backend", ["onnxruntime", "onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx"]
)
@pytest.mark.parametrize("graph", ["vision", "vision_tokens", "salience"])
def test_a_gpu_gives_what_the_cpu_does(exported: Exported, backend: str, graph: str) -> None:
    device = open_device("cuda")
    model = open_model(exported.folder)
    plain = open_runner(model, graph, device=CPU)
    try:
        runner = open_runner(model, graph, backend=backend, device=device)
    except BackendError as error:
        pytest.skip(str(error))
    assert isinstance(runner, OnnxRuntimeRunner)
    cases = [(1, 9, 1), (3, 20, 3), (7, 40, 1)]
    if backend == "onnxruntime":  # whose shapes are free
        cases.append((2, 70, 2))
    with device.on_stream():
        for seed in range(3):  # plainly, recorded, replayed
            for batch, tokens, images in cases:
                sizes = {
                    "batch": batch,
                    "tokens": tokens,
                    "kept": min(tokens, 37),
                    "images": images,
                }
                feeds = feeds_of(np.random.default_rng(seed), SHAPES[graph], sizes, VOCABULARY)
                found = runner.run({name: device.xp.asarray(one) for name, one in feeds.items()})
                assert_close(
                    {name: device.to_host(one) for name, one in found.items()},
                    plain.run(feeds),
                    thresholds.SALIENCE,
                )
        captured = [captured for _, captured in runner.captured]
        runner.close()
    assert captured
    assert all(captured) == (backend == "onnxruntime")
