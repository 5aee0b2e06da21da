"""Paint backgrounds without a name, and the named textures that cover a context scene."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

Rng = np.random.Generator
Painter = Callable[[Rng, int, int], np.ndarray]


def background(rng: Rng, height: int, width: int) -> np.ndarray:
    """Paint a background: clouds of color, gradients or patterns; uint8 [H, W, 3]."""
    first, second = (_color(rng) for _ in range(2))
    kind = rng.integers(4)
    if kind == 0:  # a gradient
        angle = rng.random() * 2 * math.pi
        y, x = _axes(height, width)
        mix = 0.5 + 0.7 * ((x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle))
    elif kind == 1:  # stripes, checks or dots, faint
        second = first + (second - first) * 0.35
        mix = _pattern(rng, height, width)
    else:  # out of focus
        mix = fractal(rng, height, width, scale=2, octaves=int(rng.integers(2, 7)))
    image = _blend(first, second, np.clip(mix, 0, 1))
    light = 0.75 + 0.5 * fractal(rng, height, width, scale=1.5, octaves=2)
    return _grain(rng, image * light[..., None], sigma=rng.random() * 6)


def fractal(
    rng: Rng, height: int, width: int, *, scale: float, octaves: int, stretch: float = 1
) -> np.ndarray:
    """Make noise of several octaves, about 0 to 1, float32 [H, W].

    Args:
        rng: source of chance.
        height: of the image.
        width: of the image.
        scale: blobs across the image in the first octave.
        octaves: each has blobs half as large and half as strong.
        stretch: how many times wider than high the blobs are.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cells = scale * 2**octave
        rows, columns = (
            max(2, min(side, round(cells * factor)))
            for side, factor in ((height, stretch**0.5), (width, stretch**-0.5))
        )
        blobs = Image.fromarray(rng.random((rows, columns), np.float32) - np.float32(0.5))
        total += np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC)) * 0.5**octave
    return np.clip(0.5 + total, 0, 1)


def _brick_wall(rng: Rng, height: int, width: int) -> np.ndarray:
    brick = np.array([165, 75, 55]) + rng.integers(-25, 26, 3)
    mortar = np.array([195, 185, 175]) + rng.integers(-20, 21)
    tall = rng.integers(9, 16)
    wide = tall * 2 + rng.integers(0, 9)
    y, x = np.mgrid[:height, :width] + rng.integers(0, 99, 2)[:, None, None]
    row = y // tall
    x = x + row % 2 * (wide // 2)
    shade = rng.random((height // tall + 99, width // wide + 99))[row, x // wide]
    wall = brick * (0.8 + 0.4 * shade[..., None])
    wall[(y % tall < 2) | (x % wide < 2)] = mortar
    return _grain(rng, wall, sigma=5)


def _grass(rng: Rng, height: int, width: int) -> np.ndarray:
    blades = fractal(rng, height, width, scale=24, octaves=3, stretch=0.12)
    dark = np.array([25, 75, 20]) + rng.integers(-12, 13, 3)
    light = np.array([125, 190, 65]) + rng.integers(-20, 21, 3)
    return _grain(rng, _blend(dark, light, blades), sigma=4)


def _night_sky(rng: Rng, height: int, width: int) -> np.ndarray:
    haze = fractal(rng, height, width, scale=2, octaves=4)
    sky = _blend(np.array([8, 8, 30]), np.array([35, 35, 95]) + rng.integers(-12, 13, 3), haze)
    stars = rng.random((height, width)) < 0.004 + 0.004 * rng.random()
    sky[stars] = 255
    sky[np.roll(stars, 1, 1)] += 90
    return _grain(rng, sky, sigma=2)


def _pebbles(rng: Rng, height: int, width: int) -> np.ndarray:
    cell = int(rng.integers(10, 18))
    rows, columns = height // cell + 3, width // cell + 3
    jitter = rng.random((2, rows, columns), np.float32)
    gray = rng.random((rows, columns), np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32) / cell + 1
    shade = np.zeros((height, width), np.float32)
    first = second = np.full((height, width), 9, np.float32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            row, column = y.astype(int) + down, x.astype(int) + right
            down_to, right_to = (
                row + jitter[0][row, column] - y,
                column + jitter[1][row, column] - x,
            )
            far = down_to * down_to + right_to * right_to
            shade = np.where(far < first, gray[row, column], shade)
            second = np.minimum(second, np.maximum(first, far))
            first = np.minimum(first, far)
    edge = np.clip((np.sqrt(second) - np.sqrt(first)) * 4, 0, 1)
    stone = np.array([150, 145, 140]) + rng.integers(-15, 16, 3)
    return _grain(rng, stone * (0.7 + 0.5 * shade[..., None]) * edge[..., None], sigma=4)


def _sand(rng: Rng, height: int, width: int) -> np.ndarray:
    y, _ = _axes(height, width)
    bend = fractal(rng, height, width, scale=2, octaves=3)
    phase = y.astype(np.float64) * rng.uniform(8, 14) + 3 * bend  # the sine of a float32 differs
    ripples = 0.5 + 0.5 * np.sin(2 * math.pi * phase)  # from processor to processor
    dark = np.array([195, 160, 105]) + rng.integers(-15, 16, 3)
    light = np.array([232, 205, 150]) + rng.integers(-12, 13, 3)
    return _grain(rng, _blend(dark, light, ripples), sigma=9)


def _snow(rng: Rng, height: int, width: int) -> np.ndarray:
    drifts = fractal(rng, height, width, scale=2, octaves=4, stretch=2)
    shadow = np.array([185, 200, 225]) + rng.integers(-12, 13, 3)
    return _grain(rng, _blend(shadow, np.array([250, 251, 254]), drifts), sigma=3)


def _water(rng: Rng, height: int, width: int) -> np.ndarray:
    waves = fractal(rng, height, width, scale=10, octaves=4, stretch=6)
    deep = np.array([15, 70, 130]) + rng.integers(-15, 16, 3)
    crest = np.array([125, 195, 225]) + rng.integers(-20, 21, 3)
    return _grain(rng, _blend(deep, crest, np.clip(1.6 * waves - 0.35, 0, 1)), sigma=2)


def _wooden_floor(rng: Rng, height: int, width: int) -> np.ndarray:
    tall = int(rng.integers(16, 28))
    lines = fractal(rng, height, width, scale=16, octaves=3, stretch=16)
    plank = np.arange(height) // tall
    tone = 0.8 + 0.4 * rng.random(plank[-1] + 1)[plank]
    dark = np.array([105, 65, 30]) + rng.integers(-15, 16, 3)
    light = np.array([190, 135, 80]) + rng.integers(-20, 21, 3)
    floor = _blend(dark, light, lines) * tone[:, None, None]
    floor[np.arange(height) % tall == 0] *= 0.4
    return _grain(rng, floor, sigma=3)


TEXTURES: dict[str, Painter] = {
    "brick wall": _brick_wall,
    "grass": _grass,
    "night sky": _night_sky,
    "pebbles": _pebbles,
    "sand": _sand,
    "snow": _snow,
    "water": _water,
    "wooden floor": _wooden_floor,
}
"""Function that paints each texture, uint8 [H, W, 3], by its name."""


def _axes(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = (np.linspace(0, 1, side, dtype=np.float32) for side in (height, width))
    return y[:, None], x[None]


def _color(rng: Rng) -> np.ndarray:
    return rng.integers(20, 236, 3)


def _pattern(rng: Rng, height: int, width: int) -> np.ndarray:
    kind = rng.integers(3)
    period = rng.integers(8, 40)
    angle = rng.random() * math.pi
    y, x = np.ogrid[:height, :width]
    y, x = (y / period).astype(np.float32), (x / period).astype(np.float32)
    u = (x * math.cos(angle) + y * math.sin(angle)) % 1 - 0.5
    v = (y * math.cos(angle) - x * math.sin(angle)) % 1 - 0.5
    if kind == 0:
        return (u > 0).astype(np.float32)
    if kind == 1:
        return ((u > 0) ^ (v > 0)).astype(np.float32)
    return (np.hypot(u, v) < 0.3).astype(np.float32)


def _blend(first: np.ndarray, second: np.ndarray, mix: np.ndarray) -> np.ndarray:
    mix = np.asarray(mix, np.float32)[..., None]
    return first.astype(np.float32) * (1 - mix) + second.astype(np.float32) * mix


def _grain(rng: Rng, image: np.ndarray, sigma: float) -> np.ndarray:
    noise = rng.random(image.shape[:2], np.float32) - np.float32(0.5)
    image = image.astype(np.float32) + np.float32(sigma * 12**0.5) * noise[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)
