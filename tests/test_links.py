"""Model folders of links, as copies by `cp -l` and the Hugging Face cache are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from pnp_ovss.engine import BackendError, ModelError
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.runners import open_runner, open_runners
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.engine.runners.onnxruntime_sessions import PROVIDERS, SessionSpec, open_on_gpu, ort
from pnp_ovss.export.build import aotinductor, tensorrt
from pnp_ovss.export.graphs.loading import load
from tests.conftest import Exported
from tests.feeds import graph_file, vision_feeds

needs_openvino = pytest.mark.skipif(not find_spec("openvino"), reason="needs openvino")
needs_rtx = pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="needs tensorrt-rtx")

NOW = ("vision", "salience")


def hard(file: Path, link: Path) -> None:
    os.link(file, link)


def cached(file: Path, link: Path) -> None:
    """As in the Hugging Face cache: all files in one folder, under other names."""
    link.symlink_to(shutil.copyfile(file, file.parents[2] / f"blob-{file.name}"))


def scattered(file: Path, link: Path) -> None:
    place = file.parents[2] / f"place-of-{file.name}"
    place.mkdir()
    link.symlink_to(shutil.copyfile(file, place / file.name))


LINKS = {"hard": hard, "cached": cached, "scattered": scattered, "folder": None}


@pytest.fixture
def model(request: pytest.FixtureRequest, model_copy: Path, tmp_path: Path) -> ModelFolder:
    """A model, of which the folder or every graph is a link."""
    link: Callable[[Path, Path], None] | None = LINKS[request.param]
    folder = tmp_path / "linked"
    if not link:
        folder.symlink_to(model_copy)
        return open_model(folder)
    shutil.copytree(model_copy, folder, ignore=shutil.ignore_patterns("onnx"))
    (folder / "onnx").mkdir()
    for file in (model_copy / "onnx").iterdir():
        link(file, folder / "onnx" / file.name)
    return open_model(folder)


def links(*kinds: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("model", kinds, indirect=True)


def same(found: ir.Model, wanted: ir.Model) -> bool:
    """Whether two graphs have the same weights."""
    ours, others = (
        {
            name: value.const_value.numpy()
            for name, value in one.graph.initializers.items()
            if value.const_value
        }
        for one in (found, wanted)
    )
    return ours.keys() == others.keys() and all(
        np.array_equal(array, others[name]) for name, array in ours.items()
    )


@links(*LINKS)
def test_weights_are_read(model: ModelFolder, exported: Exported):
    for graph in model.manifest.graphs:
        assert same(load(model.graph_path(graph)), ir.load(graph_file(exported.folder, graph)))


@links(*LINKS)
def test_a_package_is_compiled(model: ModelFolder, monkeypatch: pytest.MonkeyPatch):
    """All but the last step, which takes minutes."""
    given: list[torch.export.ExportedProgram] = []

    def compiled(program: torch.export.ExportedProgram, *, package_path: str, **_: object) -> None:
        given.append(program)
        Path(package_path).write_bytes(b"package")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compiled)
    aotinductor.build(model, precision="bf16", device="cpu", graphs=["vision"])
    feeds = {name: torch.from_numpy(value) for name, value in vision_feeds(2).items()}
    with torch.no_grad():
        found = given[0].module()(**feeds)["image_embeds"]
    wanted = OnnxRuntimeRunner(graph_file(copy(model), "vision")).run(vision_feeds(2))[
        "image_embeds"
    ]
    assert np.allclose(found, wanted, atol=0.05)


def copy(model: ModelFolder) -> Path:
    """What `cp -rL` makes."""
    return Path(shutil.copytree(model.path, model.path.with_name("COPY")))


@links(*LINKS)
def test_a_graph_is_written_in_another_precision(model: ModelFolder, tmp_path: Path):
    path = tensorrt._in_precision(model.graph_path("vision"), "fp16", tmp_path)
    wanted = tensorrt._in_precision(graph_file(copy(model), "vision"), "fp16", tmp_path / "COPY")
    assert same(ir.load(path), ir.load(wanted))


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@links(*LINKS)
def test_a_build_is_made(model: ModelFolder, precision: tensorrt.Precision):
    (built,) = tensorrt.build(
        model,
        target="tensorrt-rtx",
        precision=precision,
        batches=[1],
        tokens=[8],
        architectures=["sm_86"],
        graphs=["vision"],
    )
    assert built.path.stat().st_size


@links("hard", "cached", "folder")
def test_onnx_runtime_runs_it(model: ModelFolder, exported: Exported):
    for graph in model.manifest.graphs:
        open_runner(model, graph, backend="onnxruntime")
    found, wanted = (
        OnnxRuntimeRunner(graph_file(folder, "vision")).run(vision_feeds(1))["image_embeds"]
        for folder in (model.path, exported.folder)
    )
    assert np.array_equal(found, wanted)


@links("scattered")
def test_onnx_runtime_refuses_it(model: ModelFolder):
    for graph in model.manifest.graphs:
        with pytest.raises(ModelError, match="ONNX Runtime cannot load") as caught:
            open_runner(model, graph, backend="onnxruntime")
        assert f"cp -rL '{model.path}' COPY" in caught.value.cure
        OnnxRuntimeRunner(graph_file(copy(model), graph))
        shutil.rmtree(model.path.with_name("COPY"))


@links("scattered")
def test_onnx_runtime_refuses_it_on_a_gpu(model: ModelFolder, monkeypatch: pytest.MonkeyPatch):
    """Here its CPU stands for one."""
    provider = PROVIDERS["cuda"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: [provider.name])
    monkeypatch.setattr(ort, "__version__", "1.32.0")
    path = model.graph_path("vision")
    spec = SessionSpec(path, CPU, [], capture=False, digest="")
    unavailable = "pnp_ovss.engine.runners.onnxruntime_sessions._start"
    monkeypatch.setattr(unavailable, lambda *_: ort.InferenceSession(str(path), providers=None))
    with pytest.raises(BackendError, match="External data path") as caught:
        open_on_gpu(provider, spec)
    assert f"cp -rL '{model.path}' COPY" in caught.value.cure
    assert provider.cure in caught.value.cure


@needs_openvino
@links("hard", "folder")
def test_openvino_runs_it(model: ModelFolder):
    for graph in model.manifest.graphs:
        open_runner(model, graph, backend="openvino")


@needs_openvino
@links("cached", "scattered")
def test_openvino_refuses_it(model: ModelFolder):
    for graph in model.manifest.graphs:
        with pytest.raises(ModelError, match="OpenVINO cannot load") as caught:
            open_runner(model, graph, backend="openvino")
        assert f"cp -rL '{model.path}' COPY" in caught.value.cure
    open_runner(open_model(copy(model)), "vision", backend="openvino")


@links("cached")
def test_what_openvino_refuses_onnx_runtime_runs(model: ModelFolder):
    runners = open_runners(model, NOW, device="cpu")
    assert isinstance(runners.loaded["vision"], OnnxRuntimeRunner)
