"""A canvas for picture-book scenes: noise, shapes, light and shadow, supersampled."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

SCALE = 4  # pictures are drawn this many times as large, and reduced

Array = np.ndarray
Points = list[tuple[float, ...]]


def rgb(colour: str) -> Array:
    """Return a ``#rrggbb`` colour as three floats."""
    return np.array(ImageColor.getrgb(colour), np.float32)


def ramp(t: Array | float, stops: str) -> Array:
    """Return colours along ``t``, interpolated between stops: ``"0 #102030, 1 #405060"``."""
    at, colours = zip(*(stop.split() for stop in stops.split(", ")), strict=True)
    positions, channels = [float(a) for a in at], np.stack([rgb(c) for c in colours], axis=1)
    return np.stack([np.interp(t, positions, c).astype(np.float32) for c in channels], axis=-1)


def step(low: float, high: float, t: Array) -> Array:
    """Return a smooth rise from 0 to 1 as ``t`` goes from ``low`` to ``high``."""
    s = np.clip((t - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


def bump(t: Array) -> Array:
    """Return a bell that is 1 where ``t`` is 0."""
    return np.exp(-(t**2))


def arch(t: Array) -> Array:
    """Return a half circle over -1..1, and 0 elsewhere."""
    return np.sqrt(np.clip(1 - t**2, 0, 1))


def relief(height: Array) -> Array:
    """Return light and shade on a height field lit from the upper left, within -1..1."""
    slope = np.gradient(height, axis=1) + np.gradient(height, axis=0)
    return np.clip(slope / (3 * slope.std()), -1, 1)


def outline(text: str) -> Points:
    """Return the points in ``"x,y x,y ~x,y x,y"``; a run that a ``~`` opens is a smooth curve."""
    straight, *curves = [
        [tuple(map(float, pair.split(","))) for pair in run.split()] for run in text.split("~")
    ]
    t = np.linspace(0, 1, 17)[:, None]
    for run in curves:
        p = np.array([run[0], *run, run[-1]])
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
            bend = 2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)
            straight += map(tuple, (b + t / 2 * (c - a + t * bend)).tolist())
    return straight


def disc(x: float, y: float, rx: float, ry: float, lean: float = 0, corners: int = 6) -> Points:
    """Return a small polygon inscribed in a leaning ellipse."""
    turn = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    spots = complex(x, y) + (rx * np.cos(turn) + 1j * ry * np.sin(turn)) * np.exp(1j * lean)
    return list(zip(spots.real, spots.imag, strict=True))


class Canvas:
    """A supersampled picture with premultiplied alpha, addressed in final pixels."""

    def __init__(self, width: int, height: int, seed: int) -> None:
        self.size, self.full = (width, height), (width * SCALE, height * SCALE)
        self.origin = np.zeros(2)
        self.rng = np.random.default_rng(seed)
        grid = np.mgrid[0 : self.full[1], 0 : self.full[0]].astype(np.float32)
        self.y, self.x = (grid + 0.5) / SCALE
        self.rgb = np.zeros((*self.x.shape, 3), np.float32)
        self.alpha = np.zeros(self.x.shape, np.float32)

    def at(self, x: float, y: float) -> Canvas:
        """Return the same picture, seen from a new origin."""
        view = copy.copy(self)
        view.origin, view.x, view.y = self.origin + np.array((x, y)), self.x - x, self.y - y
        return view

    def pixels(self, points: Points) -> Points:
        """Return points as positions in the supersampled image."""
        return [tuple(p) for p in ((np.array(points) + self.origin) * SCALE).tolist()]

    def noise(self, cell_x: float, cell_y: float, octaves: int = 4) -> Array:
        """Return smooth noise, about -1..1, whose largest features have the given size."""
        total = np.zeros(self.x.shape, np.float32)
        for gain in 2 ** np.arange(octaves):
            shape = [
                int(s / c * gain) + 2 for s, c in zip(self.size, (cell_x, cell_y), strict=True)
            ]
            lattice = Image.fromarray(self.rng.uniform(-1, 1, shape[::-1]).astype(np.float32))
            total += np.asarray(lattice.resize(self.full, Image.Resampling.BICUBIC)) / gain
        return total

    def polygon(self, paths: str) -> Array:
        """Return the union of filled outlines, separated by ``;``, as a mask."""
        image = Image.new("1", self.full)
        for path in paths.split(";"):
            ImageDraw.Draw(image).polygon(self.pixels(outline(path)), fill=1)
        return np.asarray(image).astype(np.float32)

    def stroke(self, paths: str, width: float) -> Array:
        """Return lines along outlines, separated by ``;``, as a mask."""
        image = Image.new("1", self.full)
        for path in paths.split(";"):
            line = self.pixels(outline(path))
            ImageDraw.Draw(image).line(line, 1, round(width * SCALE), joint="curve")
        return np.asarray(image).astype(np.float32)

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> Array:
        """Return a filled ellipse as a mask."""
        return (np.hypot((self.x - x) / rx, (self.y - y) / ry) <= 1).astype(np.float32)

    def blur(self, mask: Array, radius: float) -> Array:
        """Return a mask softened by ``radius`` final pixels."""
        image = Image.fromarray((np.clip(mask, 0, 1) * 255).astype(np.uint8))
        small = image.resize(self.size, Image.Resampling.BOX)
        soft = small.filter(ImageFilter.GaussianBlur(radius))
        return np.asarray(soft.resize(self.full, Image.Resampling.BICUBIC), np.float32) / 255

    def paint(self, mask: Array, colour: str | Array, opacity: float = 1) -> None:
        """Lay one colour, or a picture of colours, over the canvas through ``mask``."""
        a = np.clip(mask * opacity, 0, 1).astype(np.float32)
        self.rgb += ((rgb(colour) if isinstance(colour, str) else colour) - self.rgb) * a[..., None]
        self.alpha += (1 - self.alpha) * a

    def shade(self, mask: Array, amount: Array | float) -> None:
        """Brighten (above 0) or darken (below 0) what is under ``mask``."""
        self.rgb *= np.clip(1 + mask * amount, 0, 2)[..., None]

    def shadow(self, mask: Array, radius: float, opacity: float) -> None:
        """Lay a soft dark shadow through ``mask``."""
        self.paint(self.blur(mask, radius), "#181622", opacity)

    def dabs(self, shapes: Sequence[tuple[Points, Array]]) -> None:
        """Paint many small polygons in order, each in its own colour."""
        colours, mask = Image.new("RGB", self.full), Image.new("1", self.full)
        on_colours, on_mask = ImageDraw.Draw(colours), ImageDraw.Draw(mask)
        for points, colour in shapes:
            corners = self.pixels(points)
            on_colours.polygon(corners, tuple(np.clip(colour, 0, 255).astype(int).tolist()))
            on_mask.polygon(corners, 1)
        self.paint(np.asarray(mask), np.asarray(colours, np.float32))

    def place(self, layer: Canvas) -> None:
        """Lay another canvas over this one."""
        self.rgb *= 1 - layer.alpha[..., None]
        self.rgb += layer.rgb

    def reflect(self, layer: Canvas, waterline: float, waves: Array) -> None:
        """Lay the mirror image of ``layer`` below ``waterline``, broken up by ``waves``."""
        depth = np.maximum(self.y - waterline, 0)
        rows = ((waterline - depth * 1.25 + waves * 1.5) * SCALE).astype(int)
        columns = ((self.x + waves * (1.5 + depth * 0.07)) * SCALE).astype(int)
        mirror = rows.clip(0, self.full[1] - 1), columns.clip(0, self.full[0] - 1)
        fade = ((self.y > waterline) * np.exp(-depth / 90) * 0.62)[..., None]
        self.rgb *= 1 - layer.alpha[mirror][..., None] * fade
        self.rgb += layer.rgb[mirror] * fade * (0.72, 0.84, 0.92)

    def sky(self, horizon: float, colours: str, cover: float) -> None:
        """Fill the canvas with a sky and drift lit clouds over it."""
        self.paint(np.ones_like(self.x), ramp(self.y / horizon, colours))
        billow = self.noise(130, 42, 6)
        cloud = step(cover, cover + 0.9, billow) * step(horizon, horizon * 0.6, self.y)
        lit = relief(self.blur(billow / 4 + 0.5, 2.5))
        self.paint(cloud, ramp(lit, "-1.2 #c4c2d0, 0.1 #fcf6ee"), 0.92)

    def ridge(self, base: float, swing: float, cell: float) -> Array:
        """Return everything below a rolling skyline, as a mask."""
        return (self.y > base + swing * self.noise(cell, 9999, 5)).astype(np.float32)

    def finish(self) -> Image.Image:
        """Return the picture at its final size, with a slight vignette and film grain."""
        width, height = self.size
        off_centre = (self.x / width - 0.5) ** 2 + (self.y / height - 0.5) ** 2
        image = (self.rgb * (1 - 0.3 * off_centre)[..., None]).clip(0, 255).astype(np.uint8)
        small = Image.fromarray(image).resize(self.size, Image.Resampling.LANCZOS)
        grain = self.rng.normal(0, 1.6, (height, width, 1))
        return Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8))
