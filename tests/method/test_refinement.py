"""Steps 6 to 11 of the method, each against its plain form in `tests/method/refinement.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.baselines import eager
from pnp_ovss.engine import Settings
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.refine import channels as engine_channels
from pnp_ovss.engine.refine import crf
from pnp_ovss.kernels import reference
from tests import thresholds
from tests.method import refinement as steps

FEW = settings(max_examples=25)
SLOW_DEFINITION = pytest.param("definition", marks=pytest.mark.slow)  # C++ is held to it, too
IMPLEMENTATIONS = ("cpu", SLOW_DEFINITION, "cuda kernels", "eager")
Refine = Callable[[np.ndarray, Image.Image, Settings], np.ndarray]
"""Class maps [C, gh, gw], image, settings -> channels [C (+ 1), H, W]."""

seeds = st.integers(0, 2**32 - 1)
cells = st.integers(1, 24)
grids = st.tuples(cells, cells)  # rows, columns


def maps_above_zero(seed: int, grid: tuple[int, int], classes: int = 3) -> np.ndarray:
    """Class maps as models give them: smooth or not, sparse or not; most have a minimum above 0."""
    rng = np.random.default_rng(seed)
    maps = rng.random((classes, *grid)) ** rng.choice([1, 8])
    maps *= rng.random(maps.shape) < rng.choice([0.2, 1])
    if rng.random() < 0.5:
        maps = np.stack([gaussian_filter(one, max(grid) / 8) for one in maps])
    offset = rng.choice([0, 0.03, 0.5, 20], (classes, 1, 1))
    scale = 10.0 ** rng.integers(-25, 25, (classes, 1, 1))
    return ((maps + offset) * scale).astype(np.float32)


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def kernels(implementation: str, request: pytest.FixtureRequest) -> Any:
    if implementation == "cuda kernels":
        return request.getfixturevalue("cuda_on_cpu")
    return reference if implementation == "definition" else CPU.kernels


def lines_of(maps: np.ndarray, image: Image.Image, chosen: Settings, implementation: str) -> Any:
    """Matrices of the engine; those of the definition for the definition."""
    grid, size = maps.shape[1:], (image.height, image.width)
    if implementation == "definition":
        background = engine_channels.has_background(len(maps), chosen)
        sigma = chosen.blur * max(size)
        return reference.line_matrices(grid, size, sigma, background=background)
    return engine_channels.lines(grid, size, chosen, classes=len(maps))


@pytest.fixture(scope="module")
def channels_of(implementation: str, kernels: Any) -> Refine:
    def of_kernels(maps: np.ndarray, image: Image.Image, chosen: Settings) -> np.ndarray:
        lines = lines_of(maps, image, chosen, implementation)
        return kernels.channels(maps, lines, chosen.threshold)

    def of_baseline(maps: np.ndarray, image: Image.Image, chosen: Settings) -> np.ndarray:
        preset = replace(eager.PRESETS["paper"], threshold=chosen.threshold, blur=chosen.blur)
        return eager.refine(maps, image, preset, chosen.background == "always")

    return of_baseline if implementation == "eager" else of_kernels


@pytest.fixture(scope="module", params=("definition", "cuda kernels", "eager"))
def threshold(request: pytest.FixtureRequest) -> Callable[..., np.ndarray]:
    """The threshold alone, which C++ applies only on the way to channels: see step 9 there."""
    if request.param == "eager":
        return lambda maps, level: np.stack(
            [eager._threshold(one, level) for one in maps.astype(np.float64)]
        )
    on_cuda = request.param == "cuda kernels"
    return (request.getfixturevalue("cuda_on_cpu") if on_cuda else reference).threshold


@given(seed=seeds, grid=grids, level=st.sampled_from([0, 0.05, 0.15, 0.45, 1]))
def test_step_6_the_threshold_keeps_the_values_of_the_map(threshold, seed, grid, level):
    maps = maps_above_zero(seed, grid)
    np.testing.assert_array_equal(threshold(maps, level), steps.threshold(maps, level))


def test_step_6_a_map_of_equal_values_is_kept_at_threshold_0_alone(threshold):
    maps = np.full((1, 4, 4), 0.3, np.float32)
    np.testing.assert_array_equal(threshold(maps, 0), maps)
    assert not threshold(maps, 1e-6).any()


def with_settings(image: Image.Image, **changes: Any) -> tuple[Settings, dict[str, Any]]:
    """Settings, and the same in the words of the plain form."""
    chosen = Settings(**changes)
    return chosen, {
        "height": image.height,
        "width": image.width,
        "least": chosen.threshold,
        "sigma": chosen.blur,
        "with_background": chosen.background == "always",
    }


@given(seed=seeds, grid=grids, width=st.integers(1, 90), height=st.integers(1, 90))
@example(seed=2, grid=(2, 5), width=1, height=2)
def test_step_7_upsampling_aligns_corners(channels_of, seed, grid, width, height):
    """Seen without a threshold and without blur."""
    maps, image = maps_above_zero(seed, grid), Image.new("RGB", (width, height))
    chosen, plain = with_settings(image, threshold=0.0, blur=0.0, background="never")
    np.testing.assert_allclose(
        channels_of(maps, image, chosen),
        steps.channels_of(maps, **plain),
        rtol=0,
        atol=thresholds.CHANNELS,
    )


@pytest.mark.parametrize(("width", "height"), [(451, 300), (401, 301), (64, 64), (7, 1)])
def test_step_8_the_background_is_exact_on_lines_that_meet_a_cell(channels_of, width, height):
    """Rounded positions take or leave lines of it, at sizes like these."""
    rng = np.random.default_rng(0)
    maps = (rng.random((2, 21, 21)) * (rng.random((2, 21, 21)) < 0.2)).astype(np.float32)
    image = Image.new("RGB", (width, height))
    chosen, _ = with_settings(image, blur=0.0)
    wanted = steps.background(steps.upsample(steps.threshold(maps, 0.15), height, width))
    assert wanted.any()
    np.testing.assert_array_equal(channels_of(maps, image, chosen)[0], wanted)


@pytest.mark.parametrize("classes", [1, 2, 3, 9])
@pytest.mark.parametrize(
    ("rule", "with_background"),
    [("always", {1, 2, 3, 9}), ("never", set[int]()), ("auto", {1, 2})],
)
def test_step_8_there_is_a_background_by_rule(rule: Any, with_background: set[int], classes: int):
    lines = engine_channels.lines((4, 5), (9, 12), Settings(background=rule), classes=classes)
    channels = CPU.kernels.channels(maps_above_zero(0, (4, 5), classes), lines, 0.15)
    assert len(channels) == classes + (classes in with_background)


@FEW
@given(
    seed=seeds,
    grid=grids,
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    level=st.sampled_from([0.0, 0.05, 0.15, 0.45]),
    blur=st.sampled_from([0.01, 0.02, 0.05, 0.2, 1.0]),
    background=st.sampled_from(["always", "never"]),
)
def test_step_9_blurred_channels_are_scaled(
    channels_of, seed, grid, width, height, level, blur, background
):
    maps, image = maps_above_zero(seed, grid), Image.new("RGB", (width, height))
    chosen, plain = with_settings(image, threshold=level, blur=blur, background=background)
    found = channels_of(maps, image, chosen)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, steps.channels_of(maps, **plain), rtol=0, atol=thresholds.CHANNELS
    )


@pytest.mark.parametrize("part", [0.5, 2])
def test_step_9_a_channel_of_less_contrast_than_rounding_is_constant(channels_of, part):
    maps = np.full((1, 6, 6), 10, np.float32)
    maps[0, :3] += np.float32(part * 1e-4)
    image = Image.new("RGB", (30, 20))
    chosen, plain = with_settings(image, threshold=0.0, blur=0.0, background="never")
    found = channels_of(maps, image, chosen)
    assert found.max() == (0 if part < 1 else 1)
    np.testing.assert_allclose(
        found, steps.channels_of(maps, **plain), rtol=0, atol=thresholds.CHANNELS
    )


def test_step_10_the_dense_crf_has_these_terms(picture):
    image = picture(3, 60, 40)
    channels = steps.channels_of(
        maps_above_zero(0, (6, 6)), 40, 60, least=0.15, sigma=0.05, with_background=True
    )
    wanted = steps.dense_crf(np.asarray(image), channels)
    likely = reference.softmax(channels.astype(np.float32))
    found = crf.marginals(np.asarray(image), likely)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=thresholds.CRF_MARGINALS)
    assert (found.argmax(axis=0) != wanted.argmax(axis=0)).mean() <= thresholds.LABELS_OF_STEPS


def test_step_11_where_all_channels_are_0_the_first_wins(channels_of):
    """Far from three small things every channel is 0; no rounding may decide there."""
    maps = np.zeros((3, 24, 24), np.float32)
    for one, (y, x) in zip(maps, [(4, 5), (12, 18), (20, 3)], strict=True):
        one[y : y + 2, x : x + 2] = (0.3, 0.7)
    image = Image.new("RGB", (160, 120))
    for blur in (0.01, 0.02, 0.05):
        chosen, plain = with_settings(image, background="never", blur=blur)
        channels = steps.channels_of(maps, **plain)
        assert (channels.max(axis=0) == 0).mean() > 0.05
        labels = steps.labels_of(channels, with_background=False)
        found = channels_of(maps, image, chosen).argmax(axis=0) + 1
        assert (found != labels).mean() <= thresholds.LABELS_OF_STEPS


@pytest.mark.parametrize("background", ["always", "never"])
@pytest.mark.parametrize("with_crf", [False, True], ids=["no crf", "crf"])
def test_step_11_labels_of_maps_whose_minimum_is_above_0(
    channels_of, implementation, kernels, picture, with_crf, background
):
    """All steps together, over some images of the sizes and grids that models have."""
    different = pixels = 0
    seen: set[int] = set()
    sizes = [(120, 90, (6, 6)), (91, 121, (28, 21)), (128, 128, (24, 24)), (120, 90, (18, 24))]
    for seed, (width, height, grid) in enumerate(sizes):
        image, maps = picture(seed, width, height), maps_above_zero(seed, grid) + np.float32(0.2)
        assert maps.min() > 0
        chosen, plain = with_settings(image, background=background)
        found, wanted = channels_of(maps, image, chosen), steps.channels_of(maps, **plain)
        if with_crf:
            wanted = steps.dense_crf(np.asarray(image), wanted)
            if implementation == "eager":
                found = eager.dense_crf(image, found)
            else:
                likely = reference.softmax(found)
                place = replace(CPU, name="cuda:0", kernels=kernels)
                place = place if implementation == "cuda kernels" else CPU
                found = crf.marginals(np.asarray(image), likely, "densecrf", place=place)
        labels = steps.labels_of(wanted, with_background=background == "always")
        seen.update(np.unique(labels))
        numbers = np.arange(len(found), dtype=np.uint16) + (background == "never")
        different += (reference.choose_labels(found, numbers.astype(np.uint16)) != labels).sum()
        pixels += labels.size
    assert len(seen) > 2
    assert different <= thresholds.LABELS_OF_STEPS * pixels
