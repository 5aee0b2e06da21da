"""What the engine does on a GPU, done on the CPU: CUDA kernels on fibers, ONNX Runtime between."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pnp_ovss.engine import Segmenter, Settings
from pnp_ovss.engine.device import CPU, Device
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.methods.pnp_ovss import Graphs, PnpOvss
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.runners import Runners
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.kernels.cpu import kernels as cpu_kernels
from pnp_ovss.kernels.cuda.kernels import CudaKernels
from tests import thresholds
from tests.conftest import Exported

PAIRS: list[tuple[int, list[str | list[str]]]] = [
    (0, ["cat"]),
    (1, ["potted plant", "sky"]),
    (2, ["dog", "tv-monitor", "x-ray machine"]),
    (3, ["dog", ["cat", "kitten", "x-ray machine"], ["sky", "cloud"]]),
]


@pytest.fixture(scope="module")
def device(cuda_on_cpu: CudaKernels) -> Device:
    return replace(CPU, name="cuda:0", kernels=cuda_on_cpu)


def load(folder: Path, device: Device) -> Segmenter:
    model = open_model(folder)
    runners = Runners(
        lambda graph: OnnxRuntimeRunner(model.graph_path(graph), device), device, ["vision"]
    )
    graphs = Graphs(runners, Captioner.load(model), model.manifest)
    return Segmenter(model, PnpOvss(graphs))


@pytest.fixture(scope="module")
def on_gpu(exported: Exported, device: Device) -> Iterator[Segmenter]:
    with load(exported.folder, device) as segmenter:
        yield segmenter


@pytest.fixture(scope="module")
def segmenter(exported: Exported) -> Iterator[Segmenter]:
    """On the CPU, by the library that stands for the GPU here, so that results are the same."""
    with Segmenter.load(exported.folder, backend="onnxruntime", device="cpu") as segmenter:
        yield segmenter


def both(on_gpu: Segmenter, segmenter: Segmenter, picture, settings: Settings, **options):
    pairs = [(picture(seed, 53, 38), classes) for seed, classes in PAIRS]
    return zip(
        *(each.segment_batch(pairs, settings=settings, **options) for each in (on_gpu, segmenter)),
        strict=True,
    )


@pytest.mark.parametrize(
    "settings",
    [
        Settings(crf=None),
        Settings.preset("released", crf=None, background="never"),
        Settings(drop_mode="attention", drop_schedule=5, crf=None, blur=0.2),
        Settings(drop_mode="tokens", drop_schedule=15, crf=None),
        Settings(passes=1, blur=0, crf=None),
        Settings(passes=2),
        Settings(passes=2, crf="densecrf-cpu"),
    ],
    ids=range(7),
)
def test_it_computes_what_the_cpu_does(on_gpu, segmenter, picture, settings):
    assert on_gpu.device == "cuda:0"
    for found, wanted in both(on_gpu, segmenter, picture, settings):
        np.testing.assert_array_equal(found.class_maps, wanted.class_maps)
        np.testing.assert_array_equal(found.match, wanted.match)
        np.testing.assert_array_equal(found.scores, wanted.scores)
        assert found.labels.dtype == np.uint16
        assert (found.labels != wanted.labels).mean() <= thresholds.LABELS


def test_classes_that_are_not_there_are_left_out(on_gpu, segmenter, picture):
    every = [found.scores for found, _ in both(on_gpu, segmenter, picture, Settings(crf=None))]
    settings = Settings(crf=None, match_threshold=float(np.median(np.concatenate(every))))
    kept: list[Sequence[bool]] = []
    for found, wanted in both(on_gpu, segmenter, picture, settings, present="match"):
        assert found.present == wanted.present
        np.testing.assert_array_equal(found.class_maps, wanted.class_maps)
        np.testing.assert_array_equal(found.labels, wanted.labels)
        kept.append(found.present)
    assert any(map(any, kept))
    assert not all(map(all, kept))


def test_the_crf_runs_where_it_was_asked_to(on_gpu, picture, monkeypatch):
    ran: list[str] = []
    cpu, gpu = cpu_kernels.densecrf, CudaKernels.densecrf

    def on_cpu(*arguments, **terms):
        ran.append("cpu")
        return cpu(*arguments, **terms)

    def on_device(*arguments, **terms):
        ran.append("gpu")
        return gpu(*arguments, **terms)

    monkeypatch.setattr(cpu_kernels, "densecrf", on_cpu)
    monkeypatch.setattr(CudaKernels, "densecrf", on_device)
    for kind in ("densecrf", "densecrf-cpu"):
        on_gpu.segment(picture(0, 20, 15), ["cat"], settings=Settings(passes=1, crf=kind))
    assert ran == ["gpu", "cpu"]


def test_what_was_located_there_is_refined_where_there_is_no_gpu(on_gpu, segmenter, picture):
    settings = Settings(passes=2, crf=None)
    image = picture(5, 53, 38)
    (located,) = on_gpu.locate([on_gpu.prepare(image, ["cat", "sky"], settings=settings)])
    assert located.device.on_gpu
    host = pickle.loads(pickle.dumps(located.to_host()))
    assert host.device is CPU
    wanted = on_gpu.segment(image, ["cat", "sky"], settings=settings)
    np.testing.assert_array_equal(on_gpu.refine(image, located, settings), wanted.labels)
    np.testing.assert_array_equal(on_gpu.refine(image, wanted, settings), wanted.labels)
    np.testing.assert_array_equal(host.maps, wanted.class_maps)
    there, here = (each.refine(image, host, settings) for each in (on_gpu, segmenter))
    assert (there != here).mean() <= thresholds.LABELS


def test_maps_of_another_order_in_memory_are_the_same_maps(on_gpu, picture):
    image = picture(6, 53, 38)
    maps = np.random.default_rng(0).random((3, 6, 6), np.float32)
    wanted = on_gpu.refine(image, maps, Settings(crf=None))
    found = on_gpu.refine(image, np.asfortranarray(maps), Settings(crf=None))
    np.testing.assert_array_equal(found, wanted)
