from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from pnp_ovss.kernels import reference
from pnp_ovss.kernels.cpu.resize import resize

Resize = Callable[[np.ndarray, int, int], np.ndarray]

# sha256 of `cases` as Pillow 12.2 and 12.3 resize them. Versions from 10.1 to 12.1 differ on strips
# that are more than 100 times as tall as wide, and 13 on many tall images.
PILLOW_12_2 = "a29ac21888bbae7d05e170fe4daafa87544745f6e3dc599a06793c9cb674fa85"

sides = st.integers(1, 120)


def cases() -> Iterator[tuple[np.ndarray, int, int]]:
    """1,000 images of noise, and the heights and widths that they are resized to."""
    chance = random.Random(0)  # the same on every version of Python and NumPy
    for _ in range(1000):
        height, width, to_height, to_width = (round(10 ** chance.uniform(0, 2.9)) for _ in range(4))
        noise = chance.randbytes(height * width * 3)
        yield np.frombuffer(noise, np.uint8).reshape(height, width, 3), to_height, to_width


def digest(function: Resize) -> str:
    sha256 = hashlib.sha256()
    for image, height, width in cases():
        sha256.update(function(image, height, width).tobytes())
    return sha256.hexdigest()


@pytest.mark.parametrize(
    "function", [resize, pytest.param(reference.resize, marks=pytest.mark.slow)]
)
def test_a_thousand_sizes_are_those_of_pillow_12_2(function: Resize):
    """Whatever Pillow is installed."""
    assert digest(function) == PILLOW_12_2


def test_each_pass_is_that_of_the_pillow_that_is_installed():
    """Versions differ in the order of the two passes; one pass at a time has none."""
    for image, height, width in islice(cases(), 200):
        if image.shape[0] <= 100 * image.shape[1]:
            lines = Image.fromarray(image).resize((width, len(image)), Image.Resampling.BICUBIC)
            wanted = np.asarray(lines.resize((width, height), Image.Resampling.BICUBIC))
            np.testing.assert_array_equal(resize(image, height, width), wanted)


@given(sides, sides, sides, sides, st.integers(0, 2**32))
@example(height=101, width=1, to_height=100, to_width=3, seed=0)
@example(height=101, width=1, to_height=102, to_width=3, seed=0)
@example(height=7, width=9, to_height=7, to_width=9, seed=0)
def test_it_is_what_the_definition_says(height, width, to_height, to_width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = resize(image, to_height, to_width)
    np.testing.assert_array_equal(found, reference.resize(image, to_height, to_width))


@pytest.mark.parametrize("value", [0, 255])
def test_saturated_images_stay_so(value: int):
    image = np.full((300, 200, 3), value, np.uint8)
    assert (resize(image, 77, 333) == value).all()


def test_rows_may_lie_apart():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    wanted = resize(np.ascontiguousarray(image[3:, 5:41]), 20, 30)
    for view in (image[3:, 5:41], image[3:, 5:41].copy()[..., ::-1][..., ::-1]):
        np.testing.assert_array_equal(resize(view, 20, 30), wanted)
    turned = image[::-1]
    np.testing.assert_array_equal(resize(turned, 20, 30), resize(turned.copy(), 20, 30))


@pytest.mark.parametrize(
    ("image", "target", "message"),
    [
        (np.zeros((4, 5, 3), np.float32), (2, 2), "image is float32"),
        (np.zeros((4, 5), np.uint8), (2, 2), r"image is uint8 \[4, 5\]"),
        (np.zeros((0, 5, 3), np.uint8), (2, 2), "out of range"),
        (np.zeros((4, 5, 3), np.uint8), (0, 2), "out of range"),
    ],
)
def test_what_cannot_be_resized_is_refused(image, target, message: str):
    with pytest.raises(ValueError, match=message):
        resize(image, *target)
