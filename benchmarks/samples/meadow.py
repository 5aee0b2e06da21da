"""A hot air balloon drifts over a cottage and an oak."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Canvas, arch, disc, outline, ramp, relief, rgb, step


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


def draw() -> Image.Image:
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
