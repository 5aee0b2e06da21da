from __future__ import annotations

import tracemalloc
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pnp_ovss.engine import InputError, Settings, memory, refine
from scipy.ndimage import gaussian_filter

from benchmarks.baselines import eager
from tests import thresholds

Background = Literal["auto", "always", "never"]
GIB = 2**30


def sparse_maps(seed: int, classes: int, grid: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    maps = rng.random((classes, grid, grid), dtype=np.float32)
    return maps * (rng.random(maps.shape) < rng.choice([0, 0.2, 1]))


def blank(height: int, width: int) -> Image.Image:
    return Image.new("RGB", (width, height))


def neighbours(pixel: int, grid: int, size: int) -> list[int]:
    """The source pixels between which a target pixel lies, in exact fractions."""
    position, steps = pixel * (grid - 1), max(size - 1, 1)
    return sorted({position // steps, -(-position // steps)})


def background_slowly(maps: np.ndarray, height: int, width: int, settings: Settings) -> np.ndarray:
    named = np.zeros(maps.shape[1:], bool)
    for class_map in maps:
        span = np.ptp(class_map)
        if span:
            named |= (class_map - class_map.min()) / span >= np.float32(settings.threshold)
    grid = len(named)
    rows = [neighbours(y, grid, height) for y in range(height)]
    columns = [neighbours(x, grid, width) for x in range(width)]
    empty = np.array([[not named[np.ix_(y, x)].any() for x in columns] for y in rows])
    if empty.all() or not empty.any():
        return np.zeros((height, width))
    blurred = gaussian_filter(empty.astype(np.float64), settings.blur * max(height, width))
    return (blurred - blurred.min()) / np.ptp(blurred)


sizes = st.integers(1, 60)
seeds = st.integers(0, 2**32 - 1)


@given(
    seeds,
    st.integers(1, 5),
    st.integers(2, 9),
    sizes,
    sizes,
    st.sampled_from([0, 0.15, 0.45]),
    st.sampled_from([0, 0.02, 0.05, 0.2]),
)
def test_class_channels_are_those_of_the_eager_baseline(
    seed, classes, grid, height, width, threshold, blur
):
    maps = sparse_maps(seed, classes, grid)
    settings = Settings(background="never", threshold=threshold, blur=blur)
    preset = eager.Preset(
        None, first_pass_weight=1, join_words=False, sum_last_class=False,
        threshold=threshold, blur=blur,
    )  # fmt: skip
    channels = refine.channels(maps, height, width, settings)
    expected = eager.refine(maps, blank(height, width), preset, background=False)
    np.testing.assert_allclose(channels, expected, rtol=0, atol=thresholds.CHANNELS)
    assert channels.dtype == np.float32


@given(seeds, st.integers(1, 4), st.integers(2, 9), sizes, sizes)
def test_background_is_where_no_class_has_salience(seed, classes, grid, height, width):
    maps = sparse_maps(seed, classes, grid)
    settings = Settings(background="always")
    channels = refine.channels(maps, height, width, settings)
    assert channels.shape == (1 + classes, height, width)
    assert np.isfinite(channels).all()
    np.testing.assert_allclose(
        channels[0],
        background_slowly(maps, height, width, settings),
        rtol=0,
        atol=thresholds.CHANNELS,
    )


@pytest.mark.parametrize("size", [(60, 80), (37, 53), (1, 50), (50, 1), (1, 1), (64, 33)])
def test_all_channels_with_background_are_those_of_the_eager_baseline(size):
    maps = sparse_maps(3, 2, 6)
    height, width = size
    channels = refine.channels(maps, height, width, Settings())
    expected = eager.refine(maps, blank(height, width), eager.PRESETS["paper"], background=True)
    np.testing.assert_allclose(channels, expected, rtol=0, atol=thresholds.CHANNELS)


@pytest.mark.parametrize(
    ("background", "with_background"),
    [("always", {1, 2, 3, 4}), ("never", set()), ("auto", {1, 2})],
)
@pytest.mark.parametrize("classes", [1, 2, 3, 4])
def test_background_rule(background: Background, with_background: set[int], classes: int):
    maps = sparse_maps(0, classes, 4)
    channels = refine.channels(maps, 9, 12, Settings(background=background))
    assert len(channels) == classes + (classes in with_background)
    assert refine.has_background(classes, Settings(background=background)) == (
        classes in with_background
    )


@pytest.mark.parametrize("background", ["always", "never"])
@pytest.mark.parametrize("size", [(1, 1), (17, 30), (333, 500), (480, 641), (427, 640), (31, 997)])
def test_all_zero_maps_give_all_zero_channels(background: Background, size):
    height, width = size
    maps = np.zeros((2, 6, 6), np.float32)
    assert not refine.channels(maps, height, width, Settings(background=background)).any()


@pytest.mark.parametrize("width", [50, 53, 640])
def test_a_channel_without_contrast_is_all_zero_not_amplified_rounding(width):
    maps = np.zeros((1, 6, 6), np.float32)
    maps[0, 0] = 0.7
    assert not refine.channels(maps, 1, width, Settings(background="never")).any()


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_memory_that_is_asked_for_is_no_less_than_what_is_used(
    monkeypatch: pytest.MonkeyPatch, classes: int
):
    asked = []
    monkeypatch.setattr(refine, "require_memory", lambda needed, *_: asked.append(needed))
    maps = sparse_maps(0, classes, 24)
    tracemalloc.start()
    try:
        refine.channels(maps, 600, 800, Settings(background="always"))
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used <= asked[0]


def test_channels_that_do_not_fit_in_memory_are_refused():
    with pytest.raises(InputError, match="2 classes on 10000000x10000000 pixels needs about"):
        refine.channels(np.zeros((2, 4, 4), np.float32), 10**7, 10**7, Settings())


@pytest.fixture
def eight_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 8 * GIB // 4096}
    monkeypatch.setattr(memory.os, "sysconf", values.__getitem__)


@pytest.mark.usefixtures("eight_gib")
def test_require_memory_refuses_what_the_machine_does_not_have():
    memory.require_memory(8 * GIB, "this", "do less")
    with pytest.raises(InputError, match=r"this needs about 9 GiB .* there are 8") as caught:
        memory.require_memory(9 * GIB, "this", "do less")
    assert caught.value.cure == "do less"


@pytest.mark.usefixtures("eight_gib")
def test_require_memory_never_says_that_as_much_is_needed_as_there_is():
    with pytest.raises(InputError) as caught:
        memory.require_memory(8 * GIB + 1, "this", "do less")
    assert "needs about 8 GiB of memory; this machine there are 8" not in caught.value.cause


@pytest.mark.parametrize("error", [AttributeError, ValueError, OSError])
def test_require_memory_passes_where_the_system_does_not_tell(monkeypatch, error):
    def unknown(_name: str) -> int:
        raise error

    monkeypatch.setattr(memory.os, "sysconf", unknown)
    memory.require_memory(2**80, "this", "do less")
