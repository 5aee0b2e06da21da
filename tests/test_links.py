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

from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.runners import open_runner
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.export.build import aotinductor, tensorrt
from pnp_ovss.export.graphs.loading import load
from tests.conftest import Exported
from tests.feeds import graph_file, vision_feeds

needs_rtx = pytest.mark.skipif(not find_spec("tensorrt_rtx"), reason="needs tensorrt-rtx")


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


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@links(*LINKS)
def test_a_backend_runs_it(model: ModelFolder, exported: Exported, backend: str):
    pytest.importorskip(backend)
    for graph in model.manifest.graphs:
        open_runner(model, graph, backend=backend)
    found, wanted = (
        open_runner(one, "vision", backend=backend).run(vision_feeds(1))["image_embeds"]
        for one in (model, open_model(exported.folder))
    )
    assert np.array_equal(found, wanted)
