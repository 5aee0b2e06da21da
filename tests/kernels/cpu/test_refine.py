from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pnp_ovss.kernels import reference
from pnp_ovss.kernels.cpu import refine
from tests import thresholds
from tests.kernels.cpu.compiled import build, run

cells = st.integers(1, 24)
sides = st.integers(1, 200)
seeds = st.integers(0, 2**32 - 1)
parts = st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0])


@given(cells, sides, st.floats(0, 300), st.booleans())
@example(grid=9, size=4, sigma=2.0, background=True)
@example(grid=1, size=1, sigma=30.0, background=True)
@example(grid=24, size=1, sigma=0.124, background=True)
def test_matrices_are_those_of_the_definition(grid, size, sigma, background):
    shape = (grid, grid), (size, size)
    found = refine.line_matrices(*shape, sigma, background=background)
    wanted = reference.line_matrices(*shape, sigma, background=background)
    for one, other in zip(found, wanted, strict=True):
        if one is not None and other is not None:
            np.testing.assert_allclose(one, other, rtol=0, atol=thresholds.LINES)
            np.testing.assert_array_equal(one == 0, other == 0)


@pytest.mark.parametrize("size", [1920, pytest.param(100_003, marks=pytest.mark.slow)])
def test_matrices_of_long_lines_are_those_of_the_definition(size: int):
    for sigma in (0.05 * size, 0.7 * size):
        shape = (24, 7), (size, 50)
        found = refine.line_matrices(*shape, sigma, background=True)
        wanted = reference.line_matrices(*shape, sigma, background=True)
        for one, other in zip(found, wanted, strict=True):
            assert one is not None
            assert other is not None
            np.testing.assert_allclose(one, other, rtol=0, atol=thresholds.LINES)


def maps_of(rng: np.random.Generator, classes: int, grid: tuple[int, int]) -> np.ndarray:
    maps = rng.random((classes, *grid)) ** rng.choice([1, 8]) + rng.choice([0, 0, 1])
    maps *= (rng.random(maps.shape) < rng.choice([0.2, 1])) * 10.0 ** rng.integers(-30, 30)
    return maps.astype(np.float32)


@settings(max_examples=40)
@given(st.integers(1, 5), cells, cells, sides, sides, parts, st.booleans(), seeds)
def test_refinement_is_that_of_the_definition(
    classes, rows, columns, height, width, part, background, seed
):
    rng = np.random.default_rng(seed)
    maps, level = maps_of(rng, classes, (rows, columns)), float(rng.choice([0, 0.15, 1]))
    sigma = part * max(height, width)
    lines = reference.line_matrices((rows, columns), (height, width), sigma, background=background)
    channels = refine.channels(maps, lines, level)
    wanted = reference.channels(maps, lines, level)
    np.testing.assert_allclose(channels, wanted, rtol=0, atol=thresholds.CHANNELS)
    likely = refine.probabilities(maps, lines, level)
    np.testing.assert_allclose(likely, reference.softmax(channels), rtol=0, atol=thresholds.SOFTMAX)
    numbers = rng.permutation(len(channels)).astype(np.uint16)
    labels = refine.labels(maps, lines, level, numbers)
    np.testing.assert_array_equal(labels, reference.choose_labels(channels, numbers))
    np.testing.assert_array_equal(labels, refine.enlarged_labels(channels, numbers, height, width))


@pytest.mark.parametrize("kernels", [refine, reference])
def test_maps_of_one_and_the_same_patch_give_equal_channels(kernels: Any):
    """So the first of two classes wins, whatever their values, in each implementation."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        maps = np.zeros((2, 16, 16), np.float32)
        maps[:, 5, 9] = rng.random(2) * 10.0 ** rng.integers(-20, 20, 2)
        lines = refine.line_matrices((16, 16), (130, 170), 8.5, background=False)
        first, second = kernels.channels(maps, lines, 0.15)
        np.testing.assert_array_equal(first, second)


@settings(max_examples=40)
@given(st.integers(1, 5), sides, sides, sides, sides, seeds)
@example(channels=3, height=1, width=1, to_height=5, to_width=7, seed=0)
def test_enlarged_labels_are_those_of_the_definition(
    channels, height, width, to_height, to_width, seed
):
    rng = np.random.default_rng(seed)
    likely = (rng.integers(0, 5, (channels, height, width)) / 4).astype(np.float32)
    numbers = rng.permutation(channels).astype(np.uint16)
    np.testing.assert_array_equal(
        refine.enlarged_labels(likely, numbers, to_height, to_width),
        reference.enlarged_labels(likely, numbers, to_height, to_width),
    )


def test_labels_hold_no_channel():
    """Channels of 48 megapixels would take a gigabyte; the labels take 96 MB."""
    maps = np.random.default_rng(0).random((5, 24, 24), np.float32)
    lines = refine.line_matrices((24, 24), (600, 800), 40.0, background=True)
    refine.labels(maps, lines, 0.15, np.arange(6, dtype=np.uint16))
    tracemalloc.start()
    try:
        refine.labels(maps, lines, 0.15, np.arange(6, dtype=np.uint16))
        assert tracemalloc.get_traced_memory()[1] < 3 * 600 * 800
    finally:
        tracemalloc.stop()


def test_what_cannot_be_refined_is_refused():
    maps = np.zeros((2, 4, 5), np.float32)
    lines = refine.line_matrices((4, 5), (20, 30), 1.0, background=True)
    with pytest.raises(ValueError, match="does not fit"):
        refine.channels(maps.transpose(0, 2, 1), lines, 0.1)
    with pytest.raises(ValueError, match="for 3 channels"):
        refine.labels(maps, lines, 0.1, np.arange(2, dtype=np.uint16))
    for level in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="out of range"):
            refine.channels(maps, lines, level)
    for sigma in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="out of range"):
            refine.line_matrices((4, 5), (20, 30), sigma, background=False)


@pytest.mark.skipif(
    sys.platform != "linux", reason="sanitizers are as GCC and Clang have them here"
)
@pytest.mark.slow
def test_random_problems_under_address_and_undefined_behavior_sanitizers(tmp_path: Path):
    program = build(tmp_path, "pixels_test.cpp", "-O1", "-fsanitize=address,undefined")
    assert "2000 problems" in run(program, "2000")
