"""Packages of compiled PyTorch. Compiling takes minutes, so most of it is slow."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pnp_ovss.engine import BackendError, ExecutionError, Segmenter, Settings
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.model.builds import Build
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.runners import open_runner
from pnp_ovss.engine.runners.aotinductor import architecture
from pnp_ovss.export.build import aotinductor
from pnp_ovss.export.validate import relative_error
from tests import thresholds
from tests.engine.runners import stand_ins
from tests.feeds import salience_feeds, vision_feeds, vision_tokens_feeds

CLASSES = ["cat", "potted plant", "hot air balloon"]


@pytest.fixture
def model(model_copy: Path) -> ModelFolder:
    return open_model(model_copy)


def test_none_was_built(model: ModelFolder):
    with pytest.raises(BackendError, match="has no aotinductor build of vision") as caught:
        open_runner(model, "vision", backend="aotinductor")
    assert "--target aotinductor" in caught.value.cure


def test_pytorch_is_not_installed(model: ModelFolder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match="PyTorch is not installed") as caught:
        open_runner(model, "vision", backend="aotinductor")
    assert "pip install 'pnp-ovss[aotinductor]'" in caught.value.cure


def test_architectures_cannot_be_named(model: ModelFolder):
    with pytest.raises(BackendError, match="not for sm_86"):
        aotinductor.build(
            model, target="aotinductor", precision="fp32", architectures=["sm_86"], device="cpu"
        )


def test_a_cpu_is_known_by_its_vector_instructions():
    assert architecture(torch, CPU).startswith(f"cpu-{platform.machine()}-")


def without(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    """Let PyTorch not know some options of its compiler, as version 2.11 does."""
    known = [name for name in torch._inductor.list_options() if name not in options]
    monkeypatch.setattr(torch._inductor, "list_options", lambda: known)


def test_pytorch_gets_the_options_that_it_knows(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
):
    """Version 2.11 has no `cpp.march`, and fails where it is passed."""
    passed: list[dict[str, object]] = []

    def compile_and_package(_: object, package_path: str, inductor_configs: dict[str, object]):
        assert inductor_configs.keys() <= set(torch._inductor.list_options())
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.flash_sdp_enabled()
        passed.append(inductor_configs)
        Path(package_path).write_bytes(b"code")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_and_package)
    monkeypatch.setattr(aotinductor, "_trace", lambda *_: None)
    for options in ([], ["cpp.march"]):
        without(monkeypatch, *options)
        aotinductor.build(model, precision="fp32", device="cpu", overwrite=True)
    assert "aot_inductor.check_lowerbound" in passed[0]
    assert [passed[1], passed[3]] == [passed[0], passed[2]]  # of both graphs
    assert passed[2] == {name: value for name, value in passed[0].items() if name != "cpp.march"}


def test_where_the_compiler_cannot_be_told_a_cpu_the_package_is_for_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of the GPU's as well: its host code is compiled likewise."""
    monkeypatch.setattr(torch._inductor, "list_options", lambda: ["cpp.march"])
    portable = architecture(torch, CPU), architecture(torch, stand_ins.device())
    assert portable[1] == "sm_89"
    without(monkeypatch, "cpp.march")
    names = set()
    for flags in ("avx2", "avx2 avx512f"):
        for model_name in ("one", "another"):
            cpus = tmp_path / "cpuinfo"
            text = f"processor : {{}}\nmodel name : {model_name}\nflags : {flags}\ncpu MHz : {{}}\n"
            cpus.write_text(text.format(0, 2000.1) + text.format(1, 1999.7))
            monkeypatch.setattr("pnp_ovss.engine.runners.aotinductor.CPUS", cpus)
            here = architecture(torch, CPU), architecture(torch, stand_ins.device())
            assert all(h.startswith(f"{p}-") for h, p in zip(here, portable, strict=True))
            cpus.write_text(text.format(0, 1.0) + text.format(1, 1.0))
            assert architecture(torch, CPU) == here[0]  # the clock is no part of it
            names.add(here)
    assert len(names) == 4


def test_whatever_the_compiler_raises_is_told_in_a_sentence(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object):
        raise AttributeError("torch._inductor.config.x does not exist")

    monkeypatch.setattr(aotinductor, "_trace", fail)
    with pytest.raises(ExecutionError, match=r"cannot compile vision: AttributeError: .*does not"):
        aotinductor.build(model, precision="fp32", device="cpu")
    assert not list((model.path / "builds").glob("[!.]*"))


def test_a_gpu_needs_cudas_headers(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(aotinductor, "open_device", lambda _: stand_ins.device())
    monkeypatch.setattr(aotinductor, "require_cuda", lambda *_: None)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(BackendError, match=r"lacks headers of CUDA: cuda\.h,") as caught:
        aotinductor.build(model, precision="bf16", device="cuda:0")
    assert "pip install 'pnp-ovss[aotinductor]'" in caught.value.cure


@pytest.fixture(scope="module")
def built(exported, tmp_path_factory: pytest.TempPathFactory) -> list[Build]:
    folder = Path(shutil.copytree(exported.folder, tmp_path_factory.mktemp("aoti") / "model"))
    return aotinductor.build(
        open_model(folder),
        target="aotinductor",
        precision="fp32",
        drop_mode="tokens",
        device="cpu",
    )


@pytest.mark.slow
def test_packages_compute_what_onnx_runtime_does(built: list[Build], picture):
    """In one test, as compiling is what takes time: other shapes than those traced, and labels."""
    folder = built[0].path.parents[1]
    model = open_model(folder)
    cases = [("vision", vision_feeds(batch)) for batch in (1, 3)]
    cases += [
        ("vision_tokens", vision_tokens_feeds(batch, kept))
        for batch, kept in ((1, 2), (1, 37), (3, 19))
    ]
    cases += [
        ("salience", salience_feeds(batch, images, tokens))
        for batch, images, tokens in ((1, 1, 2), (3, 3, 6), (3, 1, 17))
    ]
    for graph, feeds in cases:
        compiled, plain = (
            open_runner(model, graph, backend=backend) for backend in ("aotinductor", "onnxruntime")
        )
        name = {one.record.recipe.graph: one.path.name for one in built}[graph]
        assert (compiled.precision, compiled.build) == ("fp32", name)
        found, wanted = compiled.run(feeds), plain.run(feeds)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert found[name].shape == value.shape
            assert relative_error(found[name], value) < thresholds.TORCH_GRAPH

    settings = Settings(crf=None)
    results = []
    for backend in ("aotinductor", "onnxruntime"):
        with Segmenter.load(folder, backend=backend, device="cpu") as segmenter:
            results.append(segmenter.segment(picture(1), CLASSES, settings=settings))
    assert (results[0].labels != results[1].labels).mean() <= thresholds.LABELS
    assert len(np.unique(results[0].labels)) > 1

    for feeds in (vision_feeds(aotinductor.LARGEST + 1), {"pixel_values": np.zeros(3)}):
        with pytest.raises(ExecutionError):  # the package itself would not notice
            open_runner(model, "vision", backend="aotinductor").run(feeds)

    code = f"""
import os, sys
import numpy as np
from pnp_ovss.engine import Segmenter, Settings
image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
def labels(): return segmenter.segment(image, {CLASSES!r}, settings=Settings(crf=None)).labels
segmenter = Segmenter.load({str(folder)!r}, backend="aotinductor", device="cpu")
want = labels()
child = os.fork()
if not child:
    assert (labels() == want).all()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert (labels() == want).all()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

    data = bytearray(built[0].path.read_bytes())
    data[len(data) // 2] ^= 1
    built[0].path.write_bytes(data)
    with pytest.raises(BackendError, match="is damaged"):
        open_runner(model, "vision", backend="aotinductor")
