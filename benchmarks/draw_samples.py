"""Draw the sample pictures that the package ships for its ``demo`` command.

Three scenes (a harbour, a meadow and a breakfast table) are painted from seeded noise and
geometry alone, so they carry nobody else's rights. Each is drawn at ``SCALE`` times its final
size and reduced. The pictures and ``samples.json``, which names the classes to look for in
each, go to ``engine/data/samples``. From the repository root, repeat it with::

    python -m benchmarks.draw_samples
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

OUTPUT = Path(__file__).resolve().parents[1] / "engine" / "data" / "samples"
SCALE = 4
QUALITY = 88

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
        view.origin, view.x, view.y = (*self.origin, x, y), self.x - x, self.y - y
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


def paint_boat(boat: Canvas) -> None:
    """Paint a wooden sailing boat under full sail."""
    x, y = boat.x, boat.y
    belly = boat.noise(60, 90, 2) * 0.07
    main = boat.polygon("~163,58 186,112 219,186 247,250 ~205,259 165,262")
    jib = boat.polygon("~157,76 128,150 88,258 ~120,262 151,256 ~146,190 157,76")
    for sail, t in ((main, (x - 163) / (8 + (y - 58) * 0.4)), (jib, (x + y / 4 - 150) / 72)):
        t = t + belly
        boat.paint(sail, ramp(t, "0 #c0a896, 0.3 #fffbee, 0.55 #faecd2, 1 #c6aa98"))
        boat.shade(sail * (np.abs((y + x * 0.12 + 9 * np.sin(t * 3)) % 27 - 13.5) < 0.45), -0.13)
    boat.paint(boat.stroke("160,50 160,268", 3.2), ramp(x, "158 #be824e, 162 #5c3620"))
    boat.paint(boat.stroke("160,262 250,256", 2.8), "#7a4a2a")
    boat.paint(boat.stroke("160,52 80,264; 160,52 252,264", 0.6), "#463c3a")
    boat.paint(boat.polygon("160,50 160,40 184,43 176,46 184,50"), "#ce3e2c")
    cabin = boat.polygon("140,268 146,256 205,257 214,268")
    boat.paint(cabin, ramp(y, "255 #faf4e8, 268 #c4b8ae"))
    for port in (158, 175, 192):
        boat.paint(boat.ellipse(port, 262, 4, 2.6), "#344658")
    hull = boat.polygon("~74,261 120,267 180,269 256,262 ~248,286 236,296 ~112,296 90,282 74,261")
    boat.paint(hull, ramp(y, "262 #c44a32, 276 #a43026, 296 #4a141a"))
    below_sheer = y - 269 + 7 * ((x - 165) / 91) ** 2
    boat.paint(hull * (below_sheer < 1.8), "#ecc48c")
    boat.paint(hull * (np.abs(below_sheer - 8) < 1.1), "#f8ecd6")
    boat.shade(hull * (np.abs(below_sheer % 5) < 0.4) * (below_sheer > 10), -0.18)
    boat.shade(hull, 0.22 * step(170, 80, x) - 0.2 * step(190, 256, x))


def paint_headland(land: Canvas) -> None:
    """Paint a grassy point of rock with the keeper's cottage."""
    x, y = land.x, land.y
    rock = land.polygon("482,262 286,262 ~286,259 306,246 330,236 356,226 400,220 440,224 482,216")
    rugged = land.noise(26, 16, 5)
    land.paint(rock, ramp(relief(rugged), "-1 #3e3436, 0 #867266, 1 #e2c8aa"))
    turf = step(14, 4, y - 226 - np.abs(x - 410) * 0.14 + 5 * rugged)
    land.paint(rock * turf, ramp(relief(land.noise(7, 5)), "-1 #425c30, 1 #9eac58"))
    land.shade(rock * step(246, 262, y), -0.5)
    land.shadow(land.polygon("384,230 402,218 482,238 482,250"), 3, 0.4)
    land.paint(land.polygon("418,226 418,202 466,202 466,224"), ramp(y, "203 #b8a898, 210 #f0e4d2"))
    roof = land.polygon("412,204 424,184 462,184 472,204")
    land.paint(roof, ramp(y, "184 #c66242, 204 #8e3a2e"))
    land.paint(
        land.polygon("426,207 434,207 434,216 426,216; 450,207 458,207 458,216 450,216"), "#404e60"
    )


def paint_lighthouse(tower: Canvas) -> None:
    """Paint a lighthouse banded in red and white, centred on x = 0."""
    x, y = tower.x, tower.y
    across = x / (15 + (y - 70) * 0.085)
    light = np.interp(across, [-1, -0.5, 0, 0.55, 1], [0.8, 1.06, 1, 0.74, 0.52])[..., None]
    wall = (np.abs(across) < 1) * (y > 70) * (y < 228 + 3 * arch(across))
    red = ((y - 4 * arch(across) - 66) // 32.5 % 2 == 1)[..., None]
    tower.paint(wall, np.where(red, rgb("#ce342a"), rgb("#fcf6ec")) * light)
    tower.shade(wall, 0.05 * tower.noise(20, 30))
    for wx, wy in ((-3, 122), (-4, 184)):
        pane = tower.at(wx, wy)
        tower.paint(pane.polygon("-3.6,7 ~-3.6,0 -3,-3.5 0,-5 3,-3.5 3.6,0 3.6,7"), "#323846")
    tower.paint(tower.polygon("-21,64 21,64 17,72 -17,72"), rgb("#5c5860") * light)
    glow = ramp(np.hypot(x, y - 51), "0 #fffcdc, 7 #ffde82, 14 #96a0a0")
    tower.paint(tower.polygon("-11,40 11,40 11,62 -11,62"), glow)
    bars = ";".join(f"{at},38 {at},64" for at in (-11, -4, 4, 11))
    rails = ";".join(f"{at},56 {at},65" for at in range(-21, 22, 6))
    tower.paint(tower.stroke(f"{bars};{rails};-22,56 22,56", 1), "#3c3a44")
    dome = tower.polygon("~-15,41 -10,32 0,26 10,32 15,41") + tower.ellipse(0, 25, 2.4, 3)
    tower.paint(dome, rgb("#d63c30") * light)


def draw_harbour() -> Image.Image:
    """Draw a sailing boat passing a lighthouse in late sunlight."""
    sea, boat, point = (Canvas(480, 360, seed) for seed in (1, 11, 12))
    x, y, horizon = sea.x, sea.y, 198
    sea.sky(horizon, "0 #4e8ac4, 0.6 #a6cce2, 1 #fee2be", 0.1)
    for base, colour in ((176, "#a6b2c4"), (187, "#8094a8")):
        sea.paint(sea.ridge(base, 9, 150), colour, 0.85)
    t = np.maximum(y - horizon, 0) / (360 - horizon)
    far = 1 / (t + 0.06)
    waves = 1.35 * sea.noise(26, 3, 3)
    for along in np.geomspace(5, 100, 40):
        across, phase = sea.rng.normal(0, 0.0022) * along, sea.rng.uniform(0, 6.3)
        waves += np.sin((x - 240) * far * across + along * far + phase) * step(0, along * 0.01, t)
    waves /= 4.5
    surface = (y > horizon).astype(np.float32)
    sea.paint(surface, ramp(t, "0 #e2d4c0, 0.12 #8eb8c4, 0.5 #3e809c, 1 #12466a"))
    sea.shade(surface * step(0, 0.2, t), waves * 0.13)
    paint_boat(boat)
    paint_headland(point)
    paint_lighthouse(point.at(384, 0))
    for layer, waterline in ((point, 260), (boat, 294)):
        sea.reflect(layer, waterline, waves)
    sparkle = step(1.0, 1.9, waves + 0.3 * sea.noise(7, 2, 2))
    sea.paint(sparkle * bump((x - 40) / (60 + 90 * t)) * surface, "#fff4d6", 0.9)
    sea.place(point)
    sea.place(boat)
    foam = bump((y - 295 - waves) / 1.8) * step(80, 100, x) * step(262, 236, x)
    foam += bump((y - 261 - waves) / 1.2) * step(282, 292, x)
    sea.paint(foam, "#f6f8f4", 0.75)
    for gull_x, gull_y in ((262, 62), (292, 84), (66, 96)):
        gull = sea.at(gull_x, gull_y)
        sea.paint(gull.stroke("~-8,-2 -4,-4 0,0 4,-4 8,-1.5", 1.2), "#4e5464")
    return sea.finish()


def paint_balloon(land: Canvas) -> None:
    """Paint a striped hot air balloon, centred on the origin."""
    x, y, r = land.x, land.y, 64
    half = np.where(y < 0, r * arch(y / r), r * (1 - 0.84 * np.clip(y / 96, 0, 1) ** 1.7))
    across = np.clip(x / np.maximum(half, 0.1), -1, 1)
    envelope = (np.abs(across) < 1) * (np.abs(y - 16) < 80)
    turn = np.arcsin(across) / np.pi * 12 + 0.5
    stripes = np.stack([rgb(c) for c in ("#de3e30", "#fabe3e", "#2878a0", "#fcf0d6")])
    land.paint(envelope, stripes[np.floor(turn).astype(int) % 4])
    from_middle = np.abs(turn % 1 - 0.5)
    from_belt = np.abs(y - 5 * arch(across) - 2)
    land.paint(envelope * (from_belt < 9), "#7a1e34")
    land.paint(envelope * (from_belt < 9 - 14 * from_middle), "#fcd678")
    land.shade(envelope, 0.1 - 0.22 * step(0.4, 0.5, from_middle) + 0.14 * np.cos(from_middle * 3))
    land.shade(envelope, np.clip(-0.25 * (x + y) / r, -0.5, 0.22) - 0.22 * across**4)
    land.paint(land.stroke("-10,96 -8,118; -3,96 -3,118; 3,96 3,118; 10,96 8,118", 0.7), "#543e32")
    land.paint(land.blur(land.ellipse(0, 100, 2.5, 5), 1.5), "#ffdc78", 0.9)
    basket = land.polygon("~-10,118 -8.5,133 8.5,133 10,118")
    land.paint(basket, ramp(x, "-10 #ce9656, 10 #684024"))
    land.shade(basket, 0.12 * np.sign(np.sin(x * 2.2) * np.sin(y * 2.2)))
    land.paint(land.stroke("-11,118 11,118", 2.4), "#603822")


def paint_house(land: Canvas) -> None:
    """Paint a cream cottage with a tiled roof, seen from its corner."""
    x, y = land.x, land.y
    land.shadow(land.polygon("320,292 450,286 480,300 372,306"), 4, 0.5)
    gable = land.polygon("322,294 322,238 348,204 374,240 374,296")
    side = land.polygon("374,240 374,296 454,288 454,238")
    land.paint(side, ramp(y, "238 #96867e, 256 #cebca6, 292 #bcac96"))
    land.paint(gable, ramp(y, "204 #f4e2c4, 292 #fcf0d8"))
    land.shade(np.maximum(side, gable), 0.05 * land.noise(8, 8) - 0.25 * step(284, 298, y))
    chimney = land.polygon("408,186 424,186 424,216 408,216; 406,183 426,183 426,189 406,189")
    land.paint(chimney, ramp(x, "406 #c47054, 426 #783e34"))
    roof = land.polygon("347,200 432,200 462,242 376,246")
    land.paint(roof, ramp(y, "200 #ce6848, 246 #963e30"))
    land.shade(roof, 0.1 * np.sin((y - 200) * 1.45) + 0.09 * land.noise(5, 4, 2))
    land.paint(land.stroke("316,245 347,201 377,247", 5), ramp(x, "316 #e08058, 377 #8c3e30"))
    for left, top, wide in ((331, 252, 13), (390, 254, 17), (424, 252, 17)):
        window, middle = land.at(left, top), wide / 2
        box = f"0,0 {wide},0 {wide},18 0,18 0,0"
        land.paint(window.polygon(box), ramp(window.y, "0 #364a62, 18 #8caabe"))
        land.paint(window.stroke(f"{box}; {middle},0 {middle},18; 0,9 {wide},9", 1.6), "#faf6ec")
    for radius, colour in ((5, "#faf6ec"), (3.4, "#465c74")):
        land.paint(land.ellipse(348, 227, radius, radius), colour)
    door = land.polygon("352,295 ~352,262 359,256 366,262 ~366,295 366,295")
    land.paint(door, ramp(x, "352 #287470, 366 #1a4e54"))
    land.paint(land.ellipse(363.5, 279, 1.1, 1.1), "#f4d278")


def paint_tree(land: Canvas) -> None:
    """Paint a broad oak built of thousands of leaves."""
    x, rng = land.x, land.rng
    land.shadow(land.ellipse(128, 318, 110, 15), 6, 0.55)
    trunk = "112,319 ~78,326 92,300 94,250 88,190 ~124,190 120,250 124,300 144,326"
    limbs = land.stroke("~104,240 70,200 46,160; ~106,236 146,196 166,150", 9)
    wood = np.maximum(land.polygon(trunk), limbs)
    land.paint(wood, ramp(x, "84 #96704e, 108 #684a36, 132 #322422"))
    land.shade(wood, 0.25 * relief(land.noise(5, 34)))
    clumps = (
        "52,176 158,176 106,190 40,130 172,132 96,150 120,140 70,88 140,88 104,60 60,112 116,108"
    )
    leaves = []
    for order, (cx, cy) in enumerate(outline(clumps)):
        for height in np.sort(rng.uniform(-1, 1, 1300)):
            reach, angle = 37 * rng.uniform(0, 1.06) ** 0.5, rng.uniform(0, 2 * np.pi)
            dx, dy = reach * np.cos(angle), 0.9 * reach * np.sin(angle)
            light = -(dx + 1.3 * dy) / 174 - (cx + dx - 104 + 1.2 * (cy + dy - 130)) / 550
            glow = 0.42 + light + 0.14 * height + 0.008 * order + rng.normal(0, 0.07)
            tone = ramp(glow, "0 #142e1e, 0.4 #38682c, 0.75 #84a43a, 1.1 #dedc70")
            size, lean = rng.uniform(1.4, 2.8), rng.uniform(0, np.pi)
            leaves.append((disc(cx + dx, cy + dy, size, size / 2, lean, 4), tone))
    land.dabs(leaves)


def paint_grass(land: Canvas, far: float, near: float) -> None:
    """Paint blades of grass and wild flowers between two rows of the picture, far ones first."""
    rng, shapes = land.rng, []
    flowers = [rgb(c) for c in ("#e23a2c", "#fcf8f0", "#facc46", "#8468be")]
    for y in np.sort(rng.uniform(far, near, int(48 * (near - far)))):
        size = (y - 240) / 120
        x, tip_y = rng.uniform(-4, 484), y - rng.uniform(3, 11) * size
        tip_x = x + rng.normal(0, 3) * size
        lit = rng.uniform(0.72, 1.12) * (0.78 if 60 < x < 220 and y < 328 else 1)
        blade = [(x - 0.7 * size, y), (tip_x, tip_y), (x + 0.7 * size, y)]
        shapes.append((blade, rgb("#7ca040") * lit - size * rgb("#1a100e")))
        if rng.random() < 0.05 and y > 290:
            bloom, petal = rng.uniform(1, 2) * size, flowers[rng.integers(4)]
            for px, py in disc(tip_x, tip_y, 0.8 * bloom, 0.55 * bloom, 0, 5):
                tint = petal * rng.uniform(0.86, 1.04)
                shapes.append((disc(px, py, 0.7 * bloom, 0.55 * bloom), tint))
            shapes.append((disc(tip_x, tip_y, 0.45 * bloom, 0.4 * bloom), rgb("#5c3c1e")))
    land.dabs(shapes)


def draw_meadow() -> Image.Image:
    """Draw a hot air balloon drifting over a cottage and an oak."""
    land = Canvas(480, 360, 2)
    land.sky(228, "0 #5496d2, 0.6 #aed4e8, 1 #faecd0", 0.0)
    for base, swing, colours in (
        (196, 16, "-10 #a0b2ca, 60 #beccd4"),
        (214, 12, "-10 #7a9ca0, 60 #a4beaa"),
        (236, 10, "-10 #68965c, 60 #a8be6c"),
        (266, 8, "-10 #96b654, 60 #5c8a36"),
    ):
        hill = land.ridge(base, swing, 200)
        land.paint(hill, ramp(land.y - base, colours))
        land.shade(hill, 0.04 * land.noise(40, 6))
    paint_balloon(land.at(284, 82))
    paint_grass(land, 262, 293)
    paint_house(land)
    paint_grass(land, 293, 321)
    paint_tree(land)
    paint_grass(land, 321, 372)
    return land.finish()


def paint_room(room: Canvas) -> None:
    """Paint a sunlit wall and window, out of focus."""
    x, y, rng = room.x, room.y, room.rng
    wall = ramp(x / 360 + y / 500, "0 #ffe8c4, 0.8 #d6b292, 1.5 #96786c")
    room.paint(np.ones_like(x), wall)
    panes = room.polygon("28,-20 176,-20 168,128 34,132")
    panes *= 1 - room.stroke("104,-20 102,140; 20,54 180,52", 7)
    room.paint(room.blur(panes, 7), ramp(y, "0 #fffff4, 130 #ecf4d0"))
    for tone in ("#fad696", "#ecaa6e", "#d6d696") * 5:
        cx, cy, r = rng.uniform(210, 360), rng.uniform(10, 150), rng.uniform(9, 20)
        room.paint(room.blur(room.ellipse(cx, cy, r, r), 2.5), tone, 0.3)


def paint_table(room: Canvas) -> None:
    """Paint a wooden table whose planks run away from the viewer."""
    x, y = room.x, room.y
    top = room.blur(y > 178, 1.2)
    across = (x - 180) / (0.55 + 0.45 * np.clip((y - 178) / 302, 0, 1)) / 62 + 10
    plank = np.floor(across)
    grain = np.sin(18 * across + 3.3 * room.noise(40, 170) + 9 * np.sin(plank * 5))
    tint = 1 + 0.09 * np.sin(plank * 12.9)
    room.paint(top, ramp(grain, "-1 #aa6c3e, 1 #c48652") * tint[..., None])
    gaps = step(0.47, 0.5, np.abs(across % 1 - 0.5))
    room.shade(top, 0.05 * room.noise(3, 60, 3) - 0.35 * gaps)
    room.shade(top, 0.34 * step(0.75, 0, np.hypot((x - 70) / 330, (y - 200) / 300)) - 0.1)


def paint_saucer(room: Canvas) -> None:
    """Paint a white saucer with a blue line, centred on the origin."""
    x, y = room.x, room.y
    room.shadow(room.ellipse(34, 14, 142, 36), 9, 0.6)
    for dy, dull in ((4, 0.3), (0, 0)):
        light = (x + 130) / 260 + y / 200 + dull
        room.paint(room.ellipse(0, dy, 130, 36), ramp(light, "0 #fafcfa, 0.5 #d6e2e6, 1 #96aab8"))
    for rx, ry, tone in ((124, 33.5, "#3a8096"), (121.5, 32, "#e2eaec"), (82, 20, "#cedade")):
        room.paint(room.ellipse(0, 1, rx, ry), tone)
    well = room.ellipse(0, 1, 121, 32)
    room.shade(well, 0.16 * step(0, -120, x) - 0.1)
    room.shade(well, -0.5 * room.blur(room.ellipse(26, 6, 74, 20), 7))


def paint_cup(room: Canvas) -> None:
    """Paint a glazed cup of coffee, with the centre of its rim at the origin."""
    x, y = room.x, room.y
    for width, nudge, soft, tone in (
        (17, 0, 0.4, "#1e5468"),
        (12, -1, 1.5, "#3e8aa0"),
        (4, -3, 1.5, "#a0d4de"),
    ):
        handle = room.at(nudge / 2, nudge).stroke("~70,22 112,14 122,48 94,80 56,84", width)
        room.paint(room.blur(handle, soft), tone)
    down = np.clip(y / 112, 0, 1)
    across = np.clip(x / (84 - 36 * down**2.3), -1, 1)
    body = (np.abs(across) < 1) * (y > 0) * (y < 108 + 13 * arch(across))
    room.paint(body, ramp(across, "-1 #226074, -0.5 #60b0c2, 0.1 #38869c, 0.8 #144258, 1 #2c6074"))
    room.shade(body, 0.05 * room.noise(6, 6, 3) + 0.14 - 0.34 * down**2)
    room.paint(bump((across - 0.86) / 0.1) * body * step(0.3, 0.7, down), "#d89660", 0.45)
    glint = room.polygon("~-58,30 -46,28 -34,36 -28,76 -36,80 -44,70 -58,30")
    room.paint(room.blur(glint, 2), "#faffff", 0.6)

    room.paint(room.ellipse(0, 0, 84, 25), ramp(x, "-84 #fafcfa, 84 #cedce2"))
    inside = room.ellipse(0, 0.8, 79, 22)
    room.paint(inside, ramp(x, "-79 #a6a4a0, 79 #faf6ee"))
    coffee = inside * room.ellipse(0, 8, 75, 20)
    spread = np.hypot(x / 75, (y - 8) / 20) + 0.06 * room.noise(14, 5)
    room.paint(coffee, ramp(spread, "0 #965c30, 0.6 #7e4624, 0.92 #542a16, 1 #784628"))
    heart = (x / 40) ** 2 + ((9 - y) / 10.5 + 0.1 - 0.75 * np.sqrt(np.abs(x / 40))) ** 2
    for low, high in ((-1, 0.16), (0.34, 0.52), (0.72, 1.0)):
        ring = step(high + 0.04, high - 0.04, heart) * step(low - 0.04, low + 0.04, heart)
        room.paint(coffee * ring, "#fae8c8", 0.9)
    room.shade(coffee, -0.35 * step(2, -12, y))


def paint_steam(room: Canvas) -> None:
    """Paint two wisps of steam rising from the origin."""
    rise = np.clip((-4 - room.y) / 150, 0, 1)
    drift = 14 * np.sin(rise * 9) + 22 * room.noise(60, 80, 3) * rise
    for start in (-18, 22):
        wisp = bump((room.x - start - drift) / (6 + 16 * rise))
        room.paint(wisp * step(0, 0.15, rise) * step(1, 0.35, rise), "#fffcf6", 0.34)


def paint_orange(room: Canvas) -> None:
    """Paint a whole orange with a leaf, centred on the origin."""
    x, y, r = room.x, room.y, 64
    room.shadow(room.ellipse(22, 54, 74, 19), 7, 0.7)
    room.shadow(room.ellipse(4, 59, 38, 9), 3, 0.6)
    skin = room.ellipse(0, 0, r, r - 2.5)
    depth = arch(np.hypot(x / r, y / (r - 2.5)))
    pores = relief(room.blur(room.noise(2.6, 2.6, 1) / 2 + 0.5, 0.4)) * depth
    light = -0.5 * x / r - 0.6 * y / r + 0.64 * depth
    tones = "-0.6 #963a0e, 0.1 #ce580c, 0.6 #f68e16, 1 #ffb63c"
    room.paint(skin, ramp(light + 0.07 * pores, tones))
    room.paint(skin * bump((light + 0.55) / 0.2), "#e88c46", 0.35)
    room.paint(skin * step(0.9, 1.0, light + 0.03 * pores), "#fff4d6", 0.75)
    room.paint(room.blur(room.ellipse(8, -46, 9, 5), 2), "#96540e", 0.7)
    room.paint(room.ellipse(8, -46, 4, 2.6), "#60702e")
    leaf = "~8,-46 26,-65 54,-61 66,-48 38,-42 8,-46"
    room.shadow(room.at(2, 8).polygon(leaf) * skin, 2.5, 0.4)
    room.paint(room.polygon(leaf), ramp(y + x * 0.15, "-62 #7eb048, -34 #28602c"))
    room.paint(room.stroke("~8,-46 34,-55 66,-48", 1), "#b0d078")


def paint_half_orange(room: Canvas) -> None:
    """Paint a cut orange showing its segments, centred on the origin."""
    x, y = room.x, room.y
    room.shadow(room.ellipse(14, 34, 60, 18), 6, 0.65)
    room.paint(room.ellipse(1, 10, 54, 40), ramp(x, "-54 #f08618, 54 #a0460e"))
    room.paint(room.ellipse(0, 0, 54, 40), "#f49622")
    room.paint(room.ellipse(0, 0, 51, 37.5), "#ffecc4")
    reach, angle = np.hypot(x / 54, y / 40), np.arctan2(y / 40, x / 54)
    from_middle = np.abs((angle / np.pi * 5 + 0.3) % 1 - 0.5)
    flesh = step(0.012, 0.03, (0.5 - from_middle) * reach * 0.63) * step(0.08, 0.12, reach)
    flesh *= step(0.87, 0.84, reach + 0.02 * np.cos(from_middle * 6))
    fibres = relief(room.blur(0.5 + room.noise(4, 4, 2) / 3, 0.5))
    room.paint(flesh, ramp(reach, "0 #ffbe48, 0.5 #fc9c22, 0.9 #f07a12"))
    streaks = 0.1 * np.sin(angle * 70 + 3 * fibres) * step(0.1, 0.6, reach)
    room.shade(flesh, 0.12 * fibres + streaks)
    room.paint(flesh * step(0.75, 1.0, fibres) * step(16, -32, x + y), "#fff6d6", 0.6)


def draw_breakfast() -> Image.Image:
    """Draw a cup of coffee and oranges on a wooden table by the window."""
    room = Canvas(360, 480, 3)
    paint_room(room)
    paint_table(room)
    paint_saucer(room.at(156, 324))
    paint_cup(room.at(156, 212))
    paint_steam(room.at(156, 212))
    paint_half_orange(room.at(98, 414))
    paint_orange(room.at(264, 384))
    return room.finish()


SCENES = (
    (
        draw_harbour,
        "harbour.jpg",
        ["sailing boat", "lighthouse", "water"],
        "A sailing boat passes a lighthouse in late sunlight.",
    ),
    (
        draw_meadow,
        "meadow.jpg",
        ["hot air balloon", "tree", "house"],
        "A hot air balloon drifts over a cottage and an oak.",
    ),
    (
        draw_breakfast,
        "breakfast.jpg",
        ["coffee cup", "orange", "table"],
        "A cup of coffee and oranges stand on a wooden table by the window.",
    ),
)


def main() -> None:
    """Draw every scene and write the list that describes them."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    listing = []
    for draw, file, classes, description in SCENES:
        draw().save(OUTPUT / file, quality=QUALITY, optimize=True)
        listing.append({"file": file, "classes": classes, "description": description})
    (OUTPUT / "samples.json").write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
