"""Draw overlays: an image with its classes colored and outlined, and a legend."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

MIN_SIDE, MAX_SIDE = 640, 2048  # small images are enlarged, by a whole factor, to be readable
OPACITY = 0.45
MIN_LEGEND_WIDTH = 360
MAX_ENTRIES = 24

_INK = (32, 33, 36)
_PALE = (120, 124, 130)
_PAPER = (250, 250, 248)


def draw(
    image: Image.Image, labels: npt.NDArray[np.uint16], colors: npt.NDArray[np.uint8]
) -> Image.Image:
    """Color and outline every class in an image, which is scaled to a readable size.

    Args:
        image: the image in RGB, W x H.
        labels: label of each pixel, uint16 [H, W].
        colors: color of each label, uint8 [1 + C, 3].
    """
    image, labels = _scale(image, labels)
    named = labels > 0
    color = Image.fromarray(colors[labels])
    width = max(2, min(round(max(image.size) / 400), min(image.size) // 20))
    line = _edges(labels, width)
    halo = _edges(labels, width + max(1, width // 3))

    out = image.copy()
    out.paste(Image.blend(image, color, OPACITY), mask=Image.fromarray(named))
    out.paste((255, 255, 255), mask=Image.fromarray(halo))
    out.paste(color, mask=Image.fromarray(line & named))
    return out


def _scale(
    image: Image.Image, labels: npt.NDArray[np.uint16]
) -> tuple[Image.Image, npt.NDArray[np.uint16]]:
    longer = max(image.size)
    factor = MAX_SIDE / longer if longer > MAX_SIDE else max(1, round(MIN_SIDE / longer))
    if factor == 1:
        return image, labels
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    resized = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.BICUBIC), np.asarray(resized)


def _edges(labels: npt.NDArray[np.uint16], width: int) -> npt.NDArray[np.bool_]:
    """Mark pixels within `width` of a pixel of another label, along rows and columns."""
    edges = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in range(1, min(width, labels.shape[axis] - 1) + 1):
            far = [slice(None)] * 2
            near = [slice(None)] * 2
            far[axis], near[axis] = slice(step, None), slice(None, -step)
            differs = labels[tuple(far)] != labels[tuple(near)]
            edges[tuple(far)] |= differs
            edges[tuple(near)] |= differs
    return edges


def add_legend(
    image: Image.Image,
    classes: Sequence[str],
    colors: npt.NDArray[np.uint8],
    shares: npt.NDArray[np.float64],
    present: Sequence[bool],
) -> Image.Image:
    """Put the class names below an image, those that cover the largest share first.

    Args:
        image: the overlay in RGB.
        classes: C class names.
        colors: color of each label, uint8 [1 + C, 3].
        shares: share of the image that each class covers, from 0 to 1, [C].
        present: whether each class was looked for, [C].
    """
    width = max(image.width, MIN_LEGEND_WIDTH)
    unit = max(15, width // 42)
    font = ImageFont.load_default(unit)
    if not isinstance(font, ImageFont.FreeTypeFont):
        return image  # this Pillow was built without FreeType, and writes in no readable size
    order = sorted(range(len(classes)), key=lambda i: -shares[i])
    entries = [
        _entry(classes[i], float(shares[i]), present[i], tuple(colors[i + 1].tolist()))
        for i in order[:MAX_ENTRIES]
    ]
    if len(order) > MAX_ENTRIES:
        entries.append(_Entry("", f"and {len(order) - MAX_ENTRIES} more", None))
    entries = [_shorten(entry, font, unit, width - 2 * unit) for entry in entries]

    places, height = _flow(entries, font, unit, width)
    page = Image.new("RGB", (width, image.height + height), _PAPER)
    page.paste(image, ((width - image.width) // 2, 0))
    pen = ImageDraw.Draw(page)
    for entry, (x, y) in zip(entries, places, strict=True):
        y += image.height
        if entry.name:
            box = (x, y, x + unit, y + unit)
            pen.rounded_rectangle(box, unit // 4, entry.color, entry.color or _PALE)
            x += unit + unit // 2
        middle = y + unit / 2
        pen.text((x, middle), entry.name, _INK if entry.color else _PALE, font, "lm")
        pen.text((x + font.getlength(f"{entry.name} "), middle), entry.note, _PALE, font, "lm")
    return page


class _Entry(NamedTuple):
    name: str
    note: str
    color: tuple[int, ...] | None


def _entry(name: str, share: float, present: bool, color: tuple[int, ...]) -> _Entry:
    if not share:
        return _Entry(_writable(name), "not found" if present else "no match", None)
    return _Entry(_writable(name), f"{share:.0%}" if share >= 0.01 else "<1%", color)


def _writable(name: str) -> str:
    """Write a name in the letters of Pillow's font: without accents, ? for other scripts."""
    letters = (c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return " ".join("".join(letters).encode("ascii", "replace").decode().split())


def _shorten(entry: _Entry, font: ImageFont.FreeTypeFont, unit: int, room: int) -> _Entry:
    """Cut the name of an entry until the entry fits into a row."""
    name = entry.name
    while name and _length(entry, font, unit) > room:
        name = name[:-1]
        entry = entry._replace(name=f"{name.rstrip()}...")
    return entry


def _length(entry: _Entry, font: ImageFont.FreeTypeFont, unit: int) -> int:
    return round(1.5 * unit + font.getlength(f"{entry.name} {entry.note}"))


def _flow(
    entries: Sequence[_Entry], font: ImageFont.FreeTypeFont, unit: int, width: int
) -> tuple[list[tuple[int, int]], int]:
    """Place entries from left to right in rows; return their positions and the height."""
    x, y = unit, unit
    places: list[tuple[int, int]] = []
    for entry in entries:
        length = _length(entry, font, unit)
        if x > unit and x + length > width - unit:
            x, y = unit, y + round(1.7 * unit)
        places.append((x, y))
        x += length + round(1.5 * unit)
    return places, y + 2 * unit
