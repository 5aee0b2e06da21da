from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pnp_ovss.kernels import densecrf, reference
from pnp_ovss.kernels.cuda import densecrf as cuda_crf
from pnp_ovss.kernels.cuda.kernels import CudaKernels, source
from tests import thresholds
from tests.kernels.cuda.cuda_on_cpu import Kernels, compiled, crashes

SOURCE = source()
GENTLE: dict[str, Any] = {
    "gaussian_compat": 1,
    "bilateral_compat": 1,
    "iterations": 2,
}  # nothing saturates
TERMS: tuple[dict[str, Any], ...] = (
    {},
    GENTLE,
    {"gaussian_compat": 0},
    {"bilateral_compat": 0},
    {"gaussian_sxy": 1, "bilateral_sxy": 20, "bilateral_srgb": 20, "iterations": 3},
    {"iterations": 0},
)


def problem(labels: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(labels)
    image = rng.integers(100, 130, (height, width, 3), dtype=np.uint8)
    return image, reference.softmax(rng.random((labels, height, width), np.float32))


@pytest.mark.parametrize("terms", TERMS, ids=range(len(TERMS)))
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 9), (3, 13, 10), (21, 7, 12)])
def test_it_is_the_crf_of_the_cpu(
    cuda_on_cpu: CudaKernels, shape: tuple[int, int, int], terms: dict
):
    image, likely = problem(*shape)
    found = cuda_on_cpu.densecrf(image, likely, **terms)
    assert found.dtype == np.float32
    wanted = densecrf(image, likely, **terms)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=thresholds.CUDA_CRF)


def test_what_is_for_the_cpu_has_no_effect(cuda_on_cpu: CudaKernels):
    image, likely = problem(3, 8, 9)
    found = cuda_on_cpu.densecrf(image, likely, threads=0, memory=1, **GENTLE)
    np.testing.assert_allclose(
        found, densecrf(image, likely, **GENTLE), rtol=0, atol=thresholds.CUDA_CRF
    )


def test_deviations_that_need_longer_keys_are_refused(cuda_on_cpu: CudaKernels):
    image, likely = problem(2, 4, 5)
    with pytest.raises(ValueError, match="outgrow 64-bit keys"):
        cuda_on_cpu.densecrf(image, likely, bilateral_srgb=0.01)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("0.5f * (from[", "0.3f * (from["),
        ("i < vertices * labels; i", "i < vertices; i"),
        ("keys[vertex] + step", "keys[vertex]"),
        ("weight[p * corners + c] * q[i]", "q[i]"),
    ],
)
def test_a_wrong_kernel_is_found_out(tmp_path: Path, right: str, wrong: str):
    assert SOURCE.count(right) == 1
    image, likely = problem(3, 8, 9)
    launch = Kernels(compiled(SOURCE.replace(right, wrong), tmp_path)).launch
    found = cuda_crf.densecrf(image, likely, xp=np, launch=launch, **GENTLE)
    assert np.abs(found - densecrf(image, likely, **GENTLE)).max() > 10 * thresholds.CUDA_CRF


def test_what_lies_behind_an_array_is_not_touched(tmp_path: Path):
    right = "i < points * labels; i += next_items()"
    launch = Kernels(compiled(SOURCE.replace(right, right.replace("<", "<=")), tmp_path)).launch
    image, likely = problem(3, 8, 9)

    def infer() -> None:
        cuda_crf.densecrf(image, likely, xp=np, launch=launch)

    assert crashes(infer) == signal.SIGSEGV


@pytest.mark.gpu
@pytest.mark.parametrize("terms", TERMS, ids=range(len(TERMS)))
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 130, 101), (21, 375, 500)])
def test_on_a_gpu_it_is_the_crf_of_the_cpu(shape: tuple[int, int, int], terms: dict):
    cupy = pytest.importorskip("cupy")
    from pnp_ovss.kernels.cuda.cupy import kernels

    image, likely = problem(*shape)
    on_gpu = kernels().densecrf(cupy.asarray(image), cupy.asarray(likely), **terms)
    found = cupy.asnumpy(on_gpu)
    wanted = densecrf(image, likely, **terms)
    same = found.argmax(axis=0) == wanted.argmax(axis=0)
    assert same.mean() >= thresholds.CRF_LABELS
    assert np.abs(found - wanted).max() <= thresholds.CRF_MARGINALS
