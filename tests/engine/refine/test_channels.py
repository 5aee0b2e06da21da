from __future__ import annotations

import tracemalloc
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import InputError, Settings
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.refine import channels, refine

Background = Literal["auto", "always", "never"]


def channels_of(maps: np.ndarray, size: tuple[int, int], background: Background) -> np.ndarray:
    chosen = Settings(background=background)
    _, rows, columns = maps.shape
    lines = channels.lines((rows, columns), size, chosen, classes=len(maps))
    return CPU.kernels.channels(maps, lines, chosen.threshold)


def sparse_maps(seed: int, classes: int, grid: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    maps = rng.random((classes, *grid), dtype=np.float32)
    return maps * (rng.random(maps.shape) < rng.choice([0, 0.2, 1]))


@pytest.mark.parametrize("background", ["always", "never"])
@pytest.mark.parametrize("size", [(1, 1), (17, 30), (333, 500), (480, 641), (427, 640), (31, 997)])
def test_all_zero_maps_give_all_zero_channels(background: Background, size):
    assert not channels_of(np.zeros((2, 6, 6), np.float32), size, background).any()


@pytest.mark.parametrize("width", [50, 53, 640])
def test_a_channel_without_contrast_is_all_zero_not_amplified_rounding(width):
    maps = np.zeros((1, 6, 6), np.float32)
    maps[0, 0] = 0.7
    assert not channels_of(maps, (1, width), "never").any()


@pytest.mark.parametrize(
    "size", [(600, 800), pytest.param((1, 100_003), marks=pytest.mark.slow), (64, 64)]
)
@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("grid", [(24, 24), (3, 40), (40, 3)])
@pytest.mark.parametrize("refine_side", [None, 50])
def test_memory_that_is_asked_for_is_no_less_than_what_is_used(
    monkeypatch: pytest.MonkeyPatch, classes: int, size: tuple[int, int], grid, refine_side
):
    asked: list[int] = []
    channels._lines.cache_clear()
    monkeypatch.setattr(channels, "require_memory", lambda needed, *_: asked.append(needed))
    maps = sparse_maps(0, classes, grid)
    image = Image.new("RGB", (size[1], size[0]))
    chosen = Settings(background="always", crf=None, refine_side=refine_side)
    tracemalloc.start()
    try:
        refine(image, maps, chosen)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used <= asked[0]


def test_channels_that_do_not_fit_in_memory_are_refused():
    with pytest.raises(InputError, match="2 classes on 10000000x10000000 pixels needs about"):
        channels.require_memory_for((4, 4), (10**7, 10**7), (10**7, 10**7), 2, 3)
