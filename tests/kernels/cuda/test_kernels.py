"""Every CUDA kernel against its definition in NumPy: on the CPU, and on a GPU if there is one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pnp_ovss.kernels import reference
from pnp_ovss.kernels.cuda.kernels import CudaKernels, source
from tests import thresholds
from tests.kernels.cuda.cuda_on_cpu import Kernels, compiled, crashes

ARCHITECTURES = ("75", "120")  # the oldest and the newest
BETWEEN = ("80", "86", "89", "90", "100")
SOURCE = source()
FEW = settings(max_examples=25)

seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 4)
sides = st.integers(1, 70)
grids = st.tuples(st.integers(1, 20), st.integers(1, 20))  # rows, columns
numbers = st.sampled_from([np.float32, np.float16])


@pytest.fixture(
    scope="module", params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)], ids="on_{}".format
)
def cuda(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "cpu":
        yield request.getfixturevalue("cuda_on_cpu")
        return
    pytest.importorskip("cupy")
    from pnp_ovss.kernels.cuda.cupy import kernels

    yield kernels()


def host(array: Any) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.get()


@FEW
@given(batch=counts, height=sides, width=sides, seed=seeds)
def test_normalize(cuda: Any, batch: int, height: int, width: int, seed: int):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (batch, height, width, 3), np.uint8)
    mean, std = rng.random(3, np.float32), rng.random(3, np.float32) + np.float32(0.1)
    found = host(cuda.normalize(cuda.xp.asarray(pixels), mean, std))
    np.testing.assert_array_equal(found, reference.normalize(pixels, mean, std))


@FEW
@given(
    batch=counts,
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    patch=st.integers(1, 9),
    dtype=numbers,
    seed=seeds,
)
def test_blank_patches(cuda: Any, batch, rows, columns, patch, dtype, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(size=(batch, 3, rows * patch, columns * patch)).astype(dtype)
    dropped = rng.random((batch, rows * columns)) < 0.5
    found = host(cuda.blank_patches(*map(cuda.xp.asarray, (pixels, dropped)), patch))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, reference.blank_patches(pixels, dropped, patch))


@FEW
@given(
    captions=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    tokens=st.integers(1, 12),
    patches=st.integers(1, 150),
    weight=st.integers(1, 3),
    dtype=numbers,
    seed=seeds,
)
@example(captions=[1, 3], tokens=12, patches=1, weight=1, dtype=np.float32, seed=4728664)
def test_accumulate(cuda: Any, captions, tokens, patches, weight, dtype, seed):
    rng = np.random.default_rng(seed)
    salience = (rng.random((sum(captions), tokens, patches)) * 10.0 ** rng.integers(-9, 3)).astype(
        dtype
    )
    total = rng.random(salience.shape, np.float32)
    dropped = rng.random((len(captions), patches)) < 0.3
    salience[0, :, dropped[0]] = np.nan  # what is dropped is not looked at
    class_token = rng.random(salience.shape[:2]) < 0.5
    first = np.cumsum([0, *captions], dtype=np.int32)
    mine = cuda.xp.asarray(total)
    mine = mine.copy()
    given_ = map(cuda.xp.asarray, (salience, dropped, class_token, first))
    scores = host(cuda.accumulate(mine, *given_, weight))
    wanted = reference.accumulate(total, salience, dropped, class_token, first, weight)
    np.testing.assert_array_equal(host(mine), total)
    np.testing.assert_array_equal(scores, wanted)
    assert np.isfinite(scores).all()


@FEW
@given(
    batch=counts,
    patches=st.integers(1, 200),
    count=st.none() | st.integers(0, 250),
    levels=st.integers(1, 100),
    seed=seeds,
)
def test_drop_salient(cuda: Any, batch, patches, count, levels, seed):
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, (batch, patches)) / levels).astype(np.float32)
    dropped = rng.random((batch, patches)) < rng.random()
    found = host(cuda.drop_salient(*map(cuda.xp.asarray, (scores, dropped)), count))
    np.testing.assert_array_equal(found, reference.drop_salient(scores, dropped, count))


@FEW
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    rows=st.integers(1, 20),
    patches=st.integers(1, 150),
    seed=seeds,
)
def test_class_maps(cuda: Any, sizes, rows, patches, seed):
    rng = np.random.default_rng(seed)
    total = rng.random((1, rows, patches), np.float32)
    members = rng.integers(0, rows, sum(sizes)).astype(np.int32)
    first = np.cumsum([0, *sizes], dtype=np.int32)
    summed = rng.random(len(sizes)) < 0.5
    found = host(cuda.class_maps(*map(cuda.xp.asarray, (total, members, first, summed))))
    np.testing.assert_array_equal(found, reference.class_maps(total, members, first, summed))


def some_maps(rng: np.random.Generator, classes: int, grid: tuple[int, int]) -> np.ndarray:
    maps = rng.random((classes, *grid), np.float32)
    return maps * (rng.random(maps.shape) < rng.choice([0, 0.2, 1])).astype(np.float32)


@FEW
@given(
    classes=counts,
    grid=grids,
    level=st.floats(0, 1, allow_subnormal=False),
    least=st.sampled_from([0, 0.01, 7, 1e4]),
    seed=seeds,
)
def test_threshold(cuda: Any, classes, grid, level, least, seed):
    maps = some_maps(np.random.default_rng(seed), classes, grid) + np.float32(least)
    found = host(cuda.threshold(cuda.xp.asarray(maps), level))
    np.testing.assert_array_equal(found, reference.threshold(maps, level))


@FEW
@given(classes=counts, grid=grids, seed=seeds)
def test_background(cuda: Any, classes, grid, seed):
    rng = np.random.default_rng(seed)
    maps = some_maps(rng, classes, grid) * (rng.random((classes, *grid)) < 0.5)
    maps = maps.astype(np.float32)
    found = host(cuda.background(cuda.xp.asarray(maps)))
    np.testing.assert_array_equal(found, reference.background(maps))


@FEW
@given(
    classes=counts,
    grid=grids,
    height=sides,
    width=sides,
    least=st.sampled_from([0, 1, 1000]),
    seed=seeds,
)
def test_resample(cuda: Any, classes, grid, height, width, least, seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.random((height, grid[0])), rng.random((width, grid[1]))
    rows, columns = (m / m.sum(axis=1, keepdims=True) for m in (rows, columns))
    maps = rng.random((classes, *grid), np.float32) + np.float32(least)
    found = cuda.xp.empty((classes, height, width), np.float32)
    levels = cuda.xp.empty(classes, np.float64)
    wanted, wanted_levels = np.empty(found.shape, np.float32), np.empty(classes)
    cuda.resample(rows, cuda.xp.asarray(maps), columns, found, levels)
    reference.resample(rows, maps, columns, wanted, wanted_levels)
    np.testing.assert_allclose(host(levels), wanted_levels, rtol=1e-12)
    np.testing.assert_allclose(host(found), wanted, rtol=0, atol=thresholds.CUDA_RESAMPLE)


@FEW
@given(
    count=counts,
    height=sides,
    width=st.integers(1, 200),
    flat=st.booleans(),
    level=st.sampled_from([0, 0.7, -3, 1e4]),
    seed=seeds,
)
def test_scale_channels(cuda: Any, count, height, width, flat, level, seed):
    rng = np.random.default_rng(seed)
    channels = rng.normal(size=(count, height, width)).astype(np.float32)
    levels = np.full(count, level, np.float64)
    if flat:
        channels[-1] = rng.random((height, width)) * 1e-6
        levels[-1] = 0.7
    wanted = channels.copy()
    reference.scale_channels(wanted, levels, 1e-5)
    mine = cuda.xp.asarray(channels).copy()
    cuda.scale_channels(mine, cuda.xp.asarray(levels), 1e-5)
    np.testing.assert_array_equal(host(mine), wanted)
    assert not flat or not wanted[-1].any()


@FEW
@given(count=counts, height=sides, width=sides, seed=seeds)
def test_softmax_and_labels(cuda: Any, count, height, width, seed):
    rng = np.random.default_rng(seed)
    channels = rng.integers(0, 4, (count, height, width)).astype(np.float32) / 4
    names = rng.integers(0, 2**16, count).astype(np.uint16)
    mine = cuda.xp.asarray(channels)
    found = host(cuda.softmax(mine))
    np.testing.assert_allclose(found, reference.softmax(channels), rtol=0, atol=thresholds.SOFTMAX)
    labels = host(cuda.choose_labels(mine, names))
    np.testing.assert_array_equal(labels, reference.choose_labels(channels, names))


@FEW
@given(classes=counts, grid=grids, height=sides, width=sides, background=st.booleans(), seed=seeds)
def test_refinement_as_a_whole(cuda: Any, classes, grid, height, width, background, seed):
    rng = np.random.default_rng(seed)
    maps = some_maps(rng, classes, grid)
    lines = reference.line_matrices(grid, (height, width), 2.5, background=background)
    mine = cuda.xp.asarray(maps)
    likely = host(cuda.probabilities(mine, lines, 0.15))
    wanted = reference.probabilities(maps, lines, 0.15)
    np.testing.assert_allclose(likely, wanted, rtol=0, atol=thresholds.CHANNELS)
    names = rng.integers(0, 2**16, len(likely)).astype(np.uint16)
    channels = host(cuda.channels(mine, lines, 0.15))
    labels = host(cuda.labels(mine, lines, 0.15, names))
    np.testing.assert_array_equal(labels, reference.choose_labels(channels, names))


@FEW
@given(count=counts, size=st.tuples(sides, sides), height=sides, width=sides, seed=seeds)
def test_enlarged_labels(cuda: Any, count, size, height, width, seed):
    rng = np.random.default_rng(seed)
    likely = rng.random((count, *size), np.float32)
    names = rng.integers(0, 2**16, count).astype(np.uint16)
    found = host(cuda.enlarged_labels(cuda.xp.asarray(likely), names, height, width))
    np.testing.assert_array_equal(found, reference.enlarged_labels(likely, names, height, width))


def test_maps_of_one_and_the_same_patch_give_equal_channels(cuda: Any):
    maps = np.zeros((2, 16, 16), np.float32)
    maps[:, 5, 9] = 0.91604286, 3.7e-9
    lines = reference.line_matrices((16, 16), (60, 70), 3.5, background=False)
    first, second = host(cuda.channels(cuda.xp.asarray(maps), lines, 0.15))
    np.testing.assert_array_equal(first, second)


def test_subnormal_maps_are_no_zeros(cuda: Any):
    """What CuPy compiles takes a subnormal float32 for zero (-ftz=true) unless told not to."""
    maps = np.array([[[1e-40, 3e-40], [0, 2e-45]]], np.float32)
    mine = cuda.xp.asarray(maps)
    for level in (0, 0.5, 1):
        found = host(cuda.threshold(mine, level))
        np.testing.assert_array_equal(found, reference.threshold(maps, level))
    np.testing.assert_array_equal(host(cuda.background(mine)), reference.background(maps))
    lines = reference.line_matrices((2, 2), (5, 4), 0.0, background=True)
    found = host(cuda.channels(mine, lines, 0.0))
    wanted = reference.channels(maps, lines, 0.0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=thresholds.CHANNELS)


def test_every_bit_pattern_of_float16_is_read_right(cuda: Any):
    bits = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16).reshape(1, 1, -1)
    total = cuda.xp.zeros(bits.shape, np.float32)
    nowhere = cuda.xp.zeros((1, bits.size), bool)
    token, first = cuda.xp.asarray([[True]]), cuda.xp.asarray(np.array([0, 1], np.int32))
    cuda.accumulate(total, cuda.xp.asarray(bits), nowhere, token, first, 1)
    np.testing.assert_array_equal(host(total), bits.astype(np.float32))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("tile[threadIdx.x] = other < patches && ", "tile[threadIdx.x] = "),
        ("i < rows * columns; i +=", "i <= rows * columns; i +="),
        ("i < pixels; i += next_items()", "i <= pixels; i += next_items()"),
    ],
)
def test_an_access_out_of_bounds_is_caught(tmp_path: Path, right: str, wrong: str):
    assert right in SOURCE
    cuda = CudaKernels(np, Kernels(compiled(SOURCE.replace(right, wrong), tmp_path)).launch)

    def use() -> None:
        flat = np.ones((1, 1024), np.float32)
        cuda.drop_salient(flat[:, :1000].copy(), np.zeros((1, 1000), bool), 3)
        cuda.background(np.ones((1, 4, 4), np.float32))
        cuda.softmax(np.ones((1, 32, 32), np.float32))

    assert crashes(use) == signal.SIGSEGV


REDUCTION = "    __syncthreads();\n    for (unsigned int warp = 0;"
TILES = "            __syncthreads();\n            for (int i = 0; i < width; i++) {"


@pytest.mark.parametrize("barrier", [REDUCTION, TILES], ids=["reduction", "tiles"])
def test_a_barrier_left_out_is_caught(cuda_on_cpu: CudaKernels, tmp_path: Path, barrier: str):
    assert SOURCE.count(barrier) == 1
    wrong = SOURCE.replace(barrier, barrier.split("\n", 1)[1])
    rng = np.random.default_rng(0)
    maps, scores = rng.random((2, 15, 15), np.float32), rng.random((2, 225), np.float32)
    maps[0, 0, 0] = maps[1, 2, 10] = 10  # one warp alone sees the largest value, each once
    nothing = np.zeros(scores.shape, bool)
    results = []
    for cuda in (cuda_on_cpu, CudaKernels(np, Kernels(compiled(wrong, tmp_path)).launch)):
        same = np.array_equal(cuda.threshold(maps, 0.5), reference.threshold(maps, 0.5))
        dropped = reference.drop_salient(scores, nothing, 50)
        same &= np.array_equal(cuda.drop_salient(scores, nothing, 50), dropped)
        results.append(same)
    assert results == [True, False]


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("if (threadIdx.x < 40) __syncthreads();", "wait at a barrier"),
        ("if (threadIdx.x % 2) __shfl_xor_sync(0xFFFFFFFFu, 1.0f, 1);", "wait at a shuffle"),
    ],
)
def test_threads_that_part_at_a_barrier_or_a_shuffle_are_caught(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kernel: str, message: str
):
    launch = Kernels(
        compiled(f'extern "C" __global__ void part(float *) {{ {kernel} }}\n', tmp_path)
    ).launch
    assert crashes(lambda: launch("part", 64, np.zeros(1, np.float32))) == signal.SIGABRT
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    "architecture",
    [*ARCHITECTURES, *(pytest.param(one, marks=pytest.mark.slow) for one in BETWEEN)],
)
def test_every_kernel_compiles_for_every_gpu(architecture: str):
    nvrtc = pytest.importorskip("tests.kernels.cuda.nvrtc")
    assert nvrtc.compile(SOURCE, f"sm_{architecture}")
