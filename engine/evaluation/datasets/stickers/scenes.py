"""Make images of stickers, with the exact mask of each sticker."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from . import textures
from .atlas import stickers
from .classes import CLASSES, STICKERS, TEXTURES

Kind = Literal["stickers", "context"]
SIDE = 256
VALIDATION_SEED, VALIDATION_IMAGES = 2024, 500

_TRIES = 12  # to find a place
_OUTSIDE = 0.15  # of a sticker's box may lie beyond the edge
_LEAST_VISIBLE = 0.45  # of a sticker, or what would hide more of it stays out
_LEAST_AREA = 250  # pixels of a texture, or it could not be told
Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Scene:
    """An image of stickers, and its truth.

    Attributes:
        image: RGB.
        labels: uint8 [H, W], 0 background, i + 1 = classes[i].
        classes: the names in it, each once, in `CLASSES`' order.
    """

    image: Image.Image
    labels: np.ndarray
    classes: tuple[str, ...]


def scene(
    kind: Kind, seed: int, index: int, size: tuple[int, int] = (SIDE, SIDE), most: int = 5
) -> Scene:
    """Make one image of an endless series; the same arguments give the same bytes.

    Args:
        kind: "stickers" on a background that has no name, or "context", where named textures cover
            the whole image and a few stickers may lie on them.
        seed: of the series.
        index: in the series.
        size: width and height.
        most: classes in an image at most. "context" has two or three textures if that allows.
    """
    rng = np.random.default_rng([get_args(Kind).index(kind), seed, index])
    width, height = size
    owners = np.zeros((height, width), np.uint8)  # 1 + index in CLASSES
    if kind == "stickers":
        canvas = textures.background(rng, height, width)
        count = int(rng.integers(1, most + 1))
    else:
        covered = min(int(rng.integers(2, 4)), most)
        canvas = _cover(rng, owners, covered)
        count = int(rng.integers(0, min(2, most - covered) + 1))
    image = Image.fromarray(canvas)
    names = rng.permutation(np.array(list(STICKERS)))[:count].tolist()
    _stick(rng, image, owners, names)
    found = [value for value in np.unique(owners).tolist() if value]
    lookup = np.zeros(len(CLASSES) + 1, np.uint8)
    lookup[found] = np.arange(1, len(found) + 1)
    return Scene(image, lookup[owners], tuple(CLASSES[value - 1] for value in found))


def _cover(rng: Rng, owners: np.ndarray, count: int) -> np.ndarray:
    """Divide the image among `count` textures, and fill in `owners`."""
    height, width = owners.shape
    names = rng.permutation(np.array(TEXTURES))[:count].tolist()
    y, x = np.mgrid[:height, :width].astype(np.float32) / max(height, width)
    wobble = textures.fractal(rng, height, width, scale=3, octaves=3)
    angle = rng.random() * 2 * math.pi
    along = x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle)) + 0.35 * wobble
    cuts = np.quantile(along, [(i + rng.uniform(-0.2, 0.2)) / count for i in range(1, count)])
    part = np.searchsorted(cuts, along)
    canvas = np.zeros((height, width, 3), np.uint8)
    for number, name in enumerate(names):
        canvas[part == number] = textures.TEXTURES[name](rng, height, width)[part == number]
        owners[part == number] = CLASSES.index(name) + 1
    return canvas


def _stick(rng: Rng, image: Image.Image, owners: np.ndarray, names: list[str]) -> None:
    """Put stickers on an image, one over the other; those that would hide too much stay out."""
    areas: dict[int, int] = {}
    largest = {1: 0.7, 2: 0.6}.get(len(names), 0.5)
    for name in names:
        for _ in range(_TRIES):
            side = max(SIDE, min(image.size)) * rng.uniform(0.3, largest)
            sticker = _vary(rng, stickers()[name], side)
            left, top = (
                round((room - own + 2 * _OUTSIDE * own) * rng.random() - _OUTSIDE * own)
                for own, room in zip(sticker.size, image.size, strict=True)
            )
            mask = np.asarray(sticker.getchannel("A")) >= 128
            mask = mask[max(0, -top) :, max(0, -left) :]
            window = owners[max(0, top) :, max(0, left) :][: mask.shape[0], : mask.shape[1]]
            mask = mask[: window.shape[0], : window.shape[1]]
            hidden = np.bincount(window[mask], minlength=len(CLASSES) + 1)
            before = np.bincount(owners.ravel(), minlength=len(CLASSES) + 1)
            if all(
                before[value] - hidden[value]
                >= max(_LEAST_AREA, _LEAST_VISIBLE * areas.get(value, 0))
                for value in (np.flatnonzero(hidden[1:]) + 1).tolist()
            ):
                value = CLASSES.index(name) + 1
                areas[value] = int(np.count_nonzero(mask))
                window[mask] = value
                image.paste(_tint(rng, sticker), (left, top), sticker)
                break


def _vary(rng: Rng, sticker: Image.Image, side: float) -> Image.Image:
    """Flip, turn and stretch a sticker; its longer side before turning becomes `side`."""
    box = sticker.getbbox()
    assert box
    sticker = sticker.crop(box)
    scale = side / max(sticker.size)
    stretch = math.exp(rng.uniform(-0.15, 0.15))
    wide, high = scale * stretch, scale / stretch
    if rng.random() < 0.5:
        wide = -wide
    angle = rng.uniform(-0.5, 0.5)
    cos, sin = math.cos(angle), math.sin(angle)
    forward = np.array([[wide * cos, -high * sin], [wide * sin, high * cos]])
    inner = np.array(sticker.size) / 2
    outer = np.ceil(np.abs(forward) @ inner)
    back = np.linalg.inv(forward)
    shift = inner - back @ outer
    matrix = (*back[0], shift[0], *back[1], shift[1])
    return sticker.transform(
        (int(2 * outer[0]), int(2 * outer[1])),
        Image.Transform.AFFINE,
        tuple(map(float, matrix)),
        Image.Resampling.BILINEAR,
    )


def _tint(rng: Rng, sticker: Image.Image) -> Image.Image:
    hue, saturation, value = sticker.convert("RGB").convert("HSV").split()
    turn = int(rng.integers(-8, 9))
    vivid, bright = rng.uniform(0.8, 1.1), rng.uniform(0.8, 1.15)
    tinted = Image.merge(
        "HSV",
        (
            hue.point([(level + turn) % 256 for level in range(256)]),
            saturation.point([min(255, int(level * vivid)) for level in range(256)]),
            value.point([min(255, int(level * bright)) for level in range(256)]),
        ),
    ).convert("RGB")
    tinted.putalpha(sticker.getchannel("A"))
    return tinted
