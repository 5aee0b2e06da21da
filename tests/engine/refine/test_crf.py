from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.baselines import eager
from pnp_ovss.engine import BackendError, InputError, memory
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.refine import crf
from pnp_ovss.kernels import reference
from pnp_ovss.kernels.cuda.kernels import CudaKernels
from tests import thresholds

SHAPES = [(1, 1, 1), (3, 1, 1), (1, 8, 9), (2, 1, 30), (2, 40, 1), (3, 40, 51), (21, 17, 30)]


def random_channels(labels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(labels).random((labels, height, width), dtype=np.float32)


def marginals(image: Image.Image, channels: np.ndarray, *kind: Any, **where: Any) -> np.ndarray:
    """The CRF on the softmax of channels."""
    return crf.marginals(np.asarray(image), reference.softmax(channels), *kind, **where)


def baseline(image: Image.Image, channels: np.ndarray) -> np.ndarray:
    pytest.importorskip("pydensecrf")
    return eager.dense_crf(image, channels)


@pytest.mark.parametrize("kind", ["densecrf", "pydensecrf"])
@pytest.mark.parametrize("shape", SHAPES)
def test_marginals_are_those_of_the_eager_baseline(picture, shape, kind):
    _, height, width = shape
    image, channels = picture(0, width, height), random_channels(*shape)
    wanted = baseline(image, channels)
    found = marginals(image, channels, kind)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=thresholds.CRF_MARGINALS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("level", [0, 1])
def test_marginals_sum_to_one(picture, shape, level):
    _, height, width = shape
    channels = np.maximum(random_channels(*shape), np.float32(level))
    found = marginals(picture(1, width, height), channels)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=0), 1, rtol=0, atol=thresholds.SOFTMAX)


def test_marginals_leave_their_input_alone(picture):
    image, likely = np.array(picture(0, 12, 9)), random_channels(3, 9, 12)
    before = image.copy(), likely.copy()
    crf.marginals(image, likely)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(likely, before[1])


def test_the_boundary_moves_to_the_edge_in_the_picture():
    image = np.zeros((30, 60, 3), np.uint8)
    image[:, 30:] = 255
    channels = np.zeros((2, 30, 60), np.float32)
    channels[0, :, :34] = channels[1, :, 34:] = 1
    labels = marginals(Image.fromarray(image), channels).argmax(axis=0)
    np.testing.assert_array_equal(labels, np.repeat([[0, 1]], 30, axis=0).repeat(30, axis=1))


def test_more_pixels_than_memory_are_refused():
    channels = np.broadcast_to(np.float32(0), (2, 10**7, 10**7))
    with pytest.raises(InputError, match="dense CRF on 10000000x10000000 pixels and 2 labels"):
        crf.marginals(np.zeros((1, 1, 3), np.uint8), channels)


def test_a_lattice_larger_than_memory_is_refused(monkeypatch: pytest.MonkeyPatch, picture):
    monkeypatch.setattr(crf, "memory_left", lambda: 2**20)
    with pytest.raises(InputError, match="dense CRF on 300x200 pixels and 3 labels needs more"):
        marginals(picture(0, 300, 200), random_channels(3, 200, 300))


def test_the_memory_of_the_host_does_not_count_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, picture, cuda_on_cpu: CudaKernels
):
    monkeypatch.setattr(memory, "memory_left", lambda: 1)
    monkeypatch.setattr(crf, "memory_left", lambda: 1)
    image, channels = picture(0, 12, 9), random_channels(3, 9, 12)
    with pytest.raises(InputError, match="dense CRF on 12x9 pixels"):
        marginals(image, channels)
    gpu = replace(CPU, name="cuda:0", kernels=cuda_on_cpu)
    np.testing.assert_allclose(
        marginals(image, channels, place=gpu),
        baseline(image, channels),
        rtol=0,
        atol=thresholds.CRF_MARGINALS,
    )


def test_a_gpu_that_runs_out_of_memory_is_left_to_its_device(
    monkeypatch: pytest.MonkeyPatch, picture, cuda_on_cpu: CudaKernels
):
    """CuPy's error is a MemoryError, which `Device` takes for what it is."""

    def fail(*_, **__):
        raise MemoryError("of the GPU")

    monkeypatch.setattr(CudaKernels, "densecrf", fail)
    gpu = replace(CPU, name="cuda:0", kernels=cuda_on_cpu)
    with pytest.raises(MemoryError, match="of the GPU"):
        marginals(picture(0, 12, 9), random_channels(3, 9, 12), place=gpu)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("pydensecrf")
    crf.require("pydensecrf")
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(BackendError, match=r"pydensecrf2.*\n.*pnp-ovss\[crf\]"):
        marginals(Image.new("RGB", (1, 1)), np.zeros((1, 1, 1), np.float32), "pydensecrf")


@pytest.mark.parametrize("error", [ImportError("gone"), OSError("damaged")])
def test_an_extension_that_cannot_be_loaded_is_told_of(
    monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fail(*_):
        raise error

    monkeypatch.setattr(crf, "load_densecrf", fail)
    with pytest.raises(BackendError, match=r"cannot be loaded.*\n.*--force-reinstall"):
        crf.require("densecrf")
