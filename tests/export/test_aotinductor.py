"""Packages of compiled PyTorch. Compiling takes minutes, so most of it is slow."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pnp_ovss.engine import BackendError, Segmenter, Settings
from pnp_ovss.engine.artifact import SALIENCE, VISION, VISION_TOKENS, Artifact, open_artifact
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.engines import Built
from pnp_ovss.engine.runners import open_runner
from pnp_ovss.engine.runners.aotinductor import architecture
from pnp_ovss.export import aotinductor
from pnp_ovss.export.validate import relative_error

from tests import thresholds
from tests.feeds import salience_feeds, vision_feeds, vision_tokens_feeds

CLASSES = ["cat", "potted plant", "hot air balloon"]


@pytest.fixture
def model(model_copy: Path) -> Artifact:
    return open_artifact(model_copy)


def test_none_was_built(model: Artifact):
    with pytest.raises(BackendError, match="no aotinductor engine of vision was built") as caught:
        open_runner(model, VISION, backend="aotinductor")
    assert "--target aotinductor" in caught.value.cure


def test_pytorch_is_not_installed(model: Artifact, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match="PyTorch cannot be imported") as caught:
        open_runner(model, VISION, backend="aotinductor")
    assert "pip install 'pnp-ovss[aotinductor]'" in caught.value.cure


def test_architectures_cannot_be_named(model: Artifact):
    with pytest.raises(BackendError, match="not for sm_86"):
        aotinductor.build(
            model, target="aotinductor", precision="fp32", architectures=["sm_86"], device="cpu"
        )


def test_a_cpu_is_known_by_its_vector_instructions():
    assert architecture(torch, CPU).startswith(f"cpu-{platform.machine()}-")


@pytest.fixture(scope="module")
def built(exported, tmp_path_factory: pytest.TempPathFactory) -> list[Built]:
    folder = Path(shutil.copytree(exported.folder, tmp_path_factory.mktemp("aoti") / "model"))
    return aotinductor.build(
        open_artifact(folder),
        target="aotinductor",
        precision="fp32",
        drop_mode="tokens",
        device="cpu",
    )


@pytest.mark.slow
def test_packages_compute_what_onnx_runtime_does(built: list[Built], picture):
    """In one test, as compiling is what takes time: other shapes than those traced, and labels."""
    folder = built[0].path.parents[1]
    model = open_artifact(folder)
    cases = [(VISION, vision_feeds(batch)) for batch in (1, 3)]
    cases += [
        (VISION_TOKENS, vision_tokens_feeds(batch, kept))
        for batch, kept in ((1, 2), (1, 37), (3, 19))
    ]
    cases += [
        (SALIENCE, salience_feeds(batch, images, tokens))
        for batch, images, tokens in ((1, 1, 2), (3, 3, 6), (3, 1, 17))
    ]
    for graph, feeds in cases:
        compiled, plain = (
            open_runner(model, graph, backend=backend) for backend in ("aotinductor", "onnxruntime")
        )
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

    data = bytearray(built[0].path.read_bytes())
    data[len(data) // 2] ^= 1
    built[0].path.write_bytes(data)
    with pytest.raises(BackendError, match="is damaged"):
        open_runner(model, VISION, backend="aotinductor")
