from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter1d
from scipy.special import softmax

from pnp_ovss.kernels import reference
from tests import thresholds


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


def arrays(rank: int, low: float, high: float, side: int = 12) -> st.SearchStrategy[np.ndarray]:
    shape = hnp.array_shapes(min_dims=rank, max_dims=rank, max_side=side)
    return hnp.arrays(np.float32, shape, elements=floats(low, high))


def drop_slowly(scores: np.ndarray, dropped: np.ndarray, count: int) -> np.ndarray:
    result = dropped.copy()
    for _ in range(count):
        left = [index for index in range(len(scores)) if not result[index]]
        if left:
            result[max(left, key=lambda index: (scores[index], -index))] = True
    return result


@st.composite
def drops(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    patches = draw(st.integers(1, 20))
    few = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1e-30])
    scores = draw(hnp.arrays(np.float32, patches, elements=few | floats(0, 1)))
    dropped = draw(hnp.arrays(np.bool_, patches))
    return scores, dropped, draw(st.integers(0, patches + 3))


@given(drops())
def test_drop_salient_takes_the_highest_left_and_of_equals_the_lower_index(case):
    scores, dropped, count = case
    before = scores.copy(), dropped.copy()
    (now,) = reference.drop_salient(scores[None], dropped[None], count)
    np.testing.assert_array_equal(now, drop_slowly(scores, dropped, count))
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(dropped, before[1])


@given(drops())
def test_drop_salient_never_drops_again_and_stops_at_what_is_left(case):
    scores, dropped, count = case
    (now,) = reference.drop_salient(scores[None], dropped[None], count)
    assert now[dropped].all()
    assert now.sum() - dropped.sum() == min(count, (~dropped).sum())


def test_drop_salient_of_all_zero_scores_drops_the_first_patches_left():
    dropped = np.array([False, True, False, False, False])
    (now,) = reference.drop_salient(np.zeros((1, 5), np.float32), dropped[None], 2)
    assert now.tolist() == [True, True, True, False, False]


@given(drops())
def test_drop_salient_of_no_count_drops_half_of_what_is_left(case):
    scores, dropped, _ = case
    half = int((~dropped).sum()) // 2
    (now,) = reference.drop_salient(scores[None], dropped[None], None)
    np.testing.assert_array_equal(now, drop_slowly(scores, dropped, half))


@given(
    batch=st.integers(1, 3),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    patch=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_blank_patches_zeroes_just_the_dropped_patches(batch, rows, columns, patch, seed):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(size=(batch, 3, rows * patch, columns * patch)).astype(np.float32)
    dropped = rng.random((batch, rows * columns)) < 0.5
    expected = pixels.copy()
    for image, index in np.argwhere(dropped):
        y, x = divmod(int(index), columns)
        expected[image, :, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch] = 0
    before = pixels.copy()
    blanked = reference.blank_patches(pixels, dropped, patch)
    np.testing.assert_array_equal(blanked, expected)
    np.testing.assert_array_equal(pixels, before)
    assert blanked.dtype == np.float32


@given(arrays(2, -1000, 1000))
def test_min_max_scales_to_zero_and_one(values):
    scaled = reference.min_max(values)
    exact = values.astype(np.float64)
    span = np.ptp(exact)
    expected = (exact - exact.min()) / span if span else np.zeros_like(exact)
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=thresholds.MIN_MAX)
    assert scaled.dtype == np.float32


@given(arrays(2, 0, 1), floats(0, 1), st.sampled_from([0, 1e-3, 1, 1000]))
def test_threshold_zeroes_what_is_below_the_level_and_keeps_the_values_of_the_rest(
    class_map, level, offset
):
    class_map += np.float32(offset)
    before = class_map.copy()
    (kept,) = reference.threshold(class_map[None], level)
    exact = class_map.astype(np.float64)
    span = np.ptp(exact)
    scaled = (exact - exact.min()) / span if span else np.zeros_like(exact)
    np.testing.assert_array_equal(kept, np.where(scaled < level, 0, class_map))
    np.testing.assert_array_equal(class_map, before)
    assert kept.dtype == np.float32


def test_threshold_scales_in_float64():
    """In float32, 0.9 of 2 comes out at the level of 0.45; the float32 nearest to 0.9 is below."""
    (kept,) = reference.threshold(np.array([[[0, 0.9, 2]]], np.float32), 0.45)
    assert kept.tolist() == [[0, 0, 2]]


def test_threshold_keeps_what_is_at_the_level():
    (kept,) = reference.threshold(np.array([[[4, 5, 6, 8]]], np.float32), 0.25)
    assert kept.tolist() == [[0, 5, 6, 8]]


@pytest.mark.parametrize("value", [0, 0.1, 1, 1e-40, 1e30])
def test_a_map_of_equal_values_counts_as_nothing(value):
    equal = np.full((1, 3, 3), value, np.float32)
    np.testing.assert_array_equal(reference.min_max(equal), np.zeros_like(equal))
    np.testing.assert_array_equal(reference.threshold(equal, 0.15), np.zeros_like(equal))
    np.testing.assert_array_equal(reference.threshold(equal, 0), equal)


@given(
    arrays(3, 0, 1, side=6), st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.booleans()
)
def test_background_is_where_the_upsampled_maps_are_zero(maps, height, width, share, seed):
    maps = maps * (np.random.default_rng(seed).random(maps.shape) < share)
    axes = tuple(zip(maps.shape[1:], (height, width), strict=True))
    rows, columns = (reference.upsampling_matrix(cells, pixels) for cells, pixels in axes)
    empty = ~(np.einsum("yi,cij,xj->cyx", rows, maps > 0, columns).any(axis=0))
    rows, columns = (reference.cells_matrix(cells, pixels) for cells, pixels in axes)
    np.testing.assert_array_equal(rows @ reference.background(maps) @ columns.T, empty)


@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 100),
    st.sampled_from([0, 1, 1000]),
    st.sampled_from([1e-43, 1e-30, 1, 1e30]),
)
def test_resample_keeps_the_digits_of_small_maps_and_contrasts(
    grid_height, grid_width, length, level, scale
):
    rng = np.random.default_rng(grid_height)
    rows = reference.upsampling_matrix(grid_height, length)
    columns = reference.upsampling_matrix(grid_width, 7)
    maps = ((level + rng.random((2, grid_height, grid_width)) * 1e-3) * scale).astype(np.float32)
    out, levels = np.empty((2, length, 7), np.float32), np.empty(2)
    reference.resample(rows, maps, columns, out, levels)
    unit = maps.max(axis=(1, 2)).astype(np.float64)
    unit[unit == 0] = 1
    wanted = np.einsum("yi,cij,xj->cyx", rows, maps.astype(np.float64), columns)
    np.testing.assert_allclose(levels * unit, wanted[:, 0, 0], rtol=1e-12)
    contrast = (wanted - wanted[:, :1, :1]) / unit[:, None, None]
    np.testing.assert_allclose(out, contrast, rtol=0, atol=1e-7 * np.abs(contrast).max() + 1e-15)


@pytest.mark.parametrize("level", [0, 0.7, -3, 1e6])
@pytest.mark.parametrize("part", [0.9, 1.1])
def test_a_channel_is_constant_by_its_span_beside_its_magnitude(level, part):
    """The span is just below, or just above, the part of the magnitude that counts as rounding."""
    span = part * 1e-5 * max(abs(level), 1e-3)
    channels = np.linspace(0, span, 12, dtype=np.float32).reshape(1, 3, 4)
    rounding = 1e-5 if level else part * 0.9
    reference.scale_channels(channels, np.array([level], np.float64), rounding)
    assert channels.max() == (0 if level and part < 1 else 1)
    assert channels.min() == 0


@given(st.integers(1, 50), st.integers(1, 300))
def test_upsampling_matrix_is_aligned_corners_bilinear(source, target):
    matrix = reference.upsampling_matrix(source, target)
    torch = pytest.importorskip("torch")
    line = torch.eye(source, dtype=torch.float64)[None, :, :, None]
    expected = torch.nn.functional.interpolate(
        line, (target, 1), mode="bilinear", align_corners=True
    )
    np.testing.assert_allclose(matrix, expected[0, :, :, 0].numpy().T, rtol=0, atol=1e-12)
    assert matrix.dtype == np.float64


@given(st.integers(1, 50), st.integers(2, 300))
def test_upsampling_matrix_takes_source_pixels_exactly(source, target):
    matrix = reference.upsampling_matrix(source, target)
    for pixel in range(target):
        index, rest = divmod(pixel * (source - 1), target - 1)
        if not rest:
            np.testing.assert_array_equal(matrix[pixel], np.eye(source)[index])


@given(arrays(2, 0, 1, side=30), floats(1 / 16, 200), st.integers(0, 1))
def test_gaussian_blur_is_that_of_scipy(values, sigma, axis):
    before = values.copy()
    blurred = reference.gaussian_blur(values, sigma, axis)
    expected = gaussian_filter1d(values.astype(np.float64), sigma, axis)
    np.testing.assert_allclose(blurred, expected, rtol=0, atol=thresholds.BLUR)
    np.testing.assert_array_equal(values, before)
    assert blurred.dtype == np.float32


@pytest.mark.parametrize("length", [997, 1024, 2000])
@pytest.mark.parametrize("sigma", [0.6, 50, 5000])
def test_gaussian_blur_of_long_lines_is_that_of_scipy(length, sigma):
    values = np.random.default_rng(length).random((2, length), dtype=np.float32)
    np.testing.assert_allclose(
        reference.gaussian_blur(values, sigma, 1),
        gaussian_filter1d(values.astype(np.float64), sigma, 1),
        rtol=0,
        atol=thresholds.BLUR,
    )


def test_gaussian_blur_without_sigma_is_a_copy():
    values = np.random.default_rng(0).random((4, 5), dtype=np.float32)
    blurred = reference.gaussian_blur(values, 0, 1)
    np.testing.assert_array_equal(blurred, values)
    assert not np.shares_memory(blurred, values)


@given(arrays(3, -1e4, 1e4, side=6))
def test_softmax_is_over_the_first_axis_and_does_not_overflow(values):
    probabilities = reference.softmax(values)
    np.testing.assert_allclose(
        probabilities, softmax(values.astype(np.float64), axis=0), rtol=0, atol=thresholds.SOFTMAX
    )
    assert probabilities.dtype == np.float32
