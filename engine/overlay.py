"""Overlays: a picture with its classes coloured and outlined, and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MIN_SIDE = (
    640  # smaller pictures are enlarged to about this, so that outline and legend are readable
)
OPACITY = 0.45
MIN_LEGEND_WIDTH = 360
MAX_ENTRIES = 24
MAX_NAME = 40

_INK = (32, 33, 36)
_PALE = (120, 124, 130)
_PAPER = (250, 250, 248)


def draw(image: Image.Image, labels: np.ndarray, colours: np.ndarray) -> Image.Image:
    """Colour and outline every class.

    Args:
        image: RGB, W x H.
        labels: uint16 [H, W].
        colours: uint8 [1 + C, 3].
    """
    factor = max(1, round(MIN_SIDE / max(image.size)))
    if factor > 1:
        size = (image.width * factor, image.height * factor)
        image = image.resize(size, Image.Resampling.BICUBIC)
        labels = labels.repeat(factor, axis=0).repeat(factor, axis=1)
    picture = np.asarray(image, np.float32)
    colour = colours[labels].astype(np.float32)
    named = (labels > 0)[..., None]
    out = np.where(named, (1 - OPACITY) * picture + OPACITY * colour, picture)

    width = max(2, round(max(image.size) / 400))
    halo, line = _edges(labels, width + 1), _edges(labels, width)
    out[halo] = 255
    out[line & (labels > 0)] = colour[line & (labels > 0)]
    return Image.fromarray(out.astype(np.uint8))


def _edges(labels: np.ndarray, width: int) -> np.ndarray:
    """Pixels within `width` of a pixel of another label, along rows and columns."""
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
    colours: np.ndarray,
    shares: np.ndarray,
    present: Sequence[bool],
) -> Image.Image:
    """Put the class names below a picture: those found, largest first, then those that were not.

    Args:
        image: RGB.
        classes: C names.
        colours: uint8 [1 + C, 3].
        shares: the part of the picture that each class covers, [C], 0 to 1.
        present: whether each class was looked for, [C].
    """
    width = max(image.width, MIN_LEGEND_WIDTH)
    unit = max(15, width // 42)
    font = ImageFont.load_default(unit)
    if not isinstance(font, ImageFont.FreeTypeFont):
        return image  # this Pillow was built without FreeType, and can write in no readable size
    order = sorted(range(len(classes)), key=lambda i: -shares[i])
    entries = [
        _Entry(
            *_describe(classes[i], float(shares[i]), present[i]),
            tuple(colours[i + 1].tolist()) if shares[i] else None,
        )
        for i in order[:MAX_ENTRIES]
    ]
    if len(order) > MAX_ENTRIES:
        entries.append(_Entry(f"and {len(order) - MAX_ENTRIES} more", "", None))

    places, height = _flow(entries, font, unit, width)
    page = Image.new("RGB", (width, image.height + height), _PAPER)
    page.paste(image, ((width - image.width) // 2, 0))
    pen = ImageDraw.Draw(page)
    for entry, (x, y) in zip(entries, places, strict=True):
        y += image.height
        box = (x, y, x + unit, y + unit)
        pen.rounded_rectangle(box, unit // 4, fill=entry.colour, outline=entry.colour or _PALE)
        x += unit + unit // 2
        ink = _INK if entry.colour else _PALE
        pen.text((x, y + unit / 2), entry.name, ink, font, anchor="lm")
        pen.text(
            (x + font.getlength(entry.name + " "), y + unit / 2), entry.note, _PALE, font, "lm"
        )
    return page


class _Entry(NamedTuple):
    name: str
    note: str
    colour: tuple[int, ...] | None


def _describe(name: str, share: float, present: bool) -> tuple[str, str]:
    short = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "\u2026"
    if not share:
        return short, "not found" if present else "no match"
    return short, f"{share:.0%}" if share >= 0.01 else "<1%"


def _flow(
    entries: Sequence[_Entry], font: ImageFont.FreeTypeFont, unit: int, width: int
) -> tuple[list[tuple[int, int]], int]:
    """Where each entry stands, from left to right in as many rows as it takes; and the height."""
    x, y = unit, unit
    places = []
    for entry in entries:
        length = round(1.5 * unit + font.getlength(f"{entry.name} {entry.note}"))
        if x > unit and x + length > width - unit:
            x, y = unit, y + round(1.7 * unit)
        places.append((x, y))
        x += length + round(1.5 * unit)
    return places, y + 2 * unit
