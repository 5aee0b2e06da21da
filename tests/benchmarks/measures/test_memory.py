from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.cli import main
from benchmarks.measures import memory
from benchmarks.measures.refinement_memory import lattice_vertices, refinement_memory
from pnp_ovss.engine import Segmenter, Settings
from pnp_ovss.engine.device import CPU, Device
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.methods.pnp_ovss import Graphs, PnpOvss
from pnp_ovss.engine.model.builds import profiles
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.refine import refine
from pnp_ovss.engine.runners import Runners
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.kernels.cuda.kernels import CudaKernels
from tests import thresholds
from tests.conftest import Exported


@pytest.fixture(scope="module")
def device(cuda_on_cpu: CudaKernels) -> Device:
    return replace(CPU, name="cuda:0", kernels=cuda_on_cpu)


def allocated(action: Callable[[], object]) -> tuple[int, int]:
    """The most bytes that NumPy had at once, and those that it has when all is done."""
    kept = [action()]  # what a first run leaves is no part of it
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept.append(action())
    after, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most - before, after - before


@pytest.mark.parametrize("labels", [3, 21])
@pytest.mark.parametrize("noise", [False, True])
def test_refinement_is_what_the_cuda_path_allocates(
    device: Device, picture: Callable[..., Image.Image], labels: int, noise: bool
) -> None:
    image = picture(0, 44, 33)
    if noise:
        pixels = np.random.default_rng(0).integers(0, 256, (33, 44, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
    maps = np.random.default_rng(1).random((labels - 1, 21, 21), np.float32)
    most, _ = allocated(lambda: refine(image, maps, Settings(), device=device))
    calculated = refinement_memory(image.width, image.height, labels, lattice_vertices(image))
    assert calculated == pytest.approx(most, rel=thresholds.REFINEMENT_MEMORY)


def test_arrays_of_a_batch_are_what_the_passes_allocate(
    exported: Exported, device: Device, picture: Callable[..., Image.Image]
) -> None:
    model = open_model(exported.folder)

    def load(name: str) -> OnnxRuntimeRunner:
        graph = model.graph(name)
        return OnnxRuntimeRunner(
            model.graph_path(name), device, profiles=profiles(graph, (4,)), roles=graph.roles
        )

    runners = Runners(load, device, ["vision", "salience"])
    method = PnpOvss(Graphs(runners, Captioner.load(model), model.manifest))
    with Segmenter(model, method) as segmenter:
        settings = Settings(passes=3)
        requests = [
            segmenter.prepare(picture(seed, 53, 38), ["cat", "dog"], settings=settings)
            for seed in range(4)
        ]
        (caption,) = method.graphs.captioner.write(["cat", "dog"])
        most, left = allocated(lambda: method.locate(requests))
    calculated = memory.batch_memory(method.preprocess, 96, len(requests), len(caption.ids))
    assert calculated == pytest.approx(most, rel=thresholds.BATCH_MEMORY)
    assert left < 0.1 * most  # a batch that is done has left its class maps alone


def test_rows_are_recorded_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "IMAGE_SIZES", ((40, 30),))
    words = ["memory", "--model", "blip-tiny", "--check", "blip-tiny", "--image-size", "96"]
    assert main([*words, "-o", str(tmp_path)]) == 0
    text = (tmp_path / "memory.md").read_text()
    assert "| blip-tiny | 96 | fp16, bf16 | 16 |" in text
    assert "| blip-tiny | salience | batch 32, images 1, tokens 16 |" in text
    assert "| 0.0 | 21 |" in text
    assert "leave a margin" in text
