"""A sailing boat passes a lighthouse in late sunlight."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Canvas, arch, bump, ramp, relief, rgb, step


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


def draw() -> Image.Image:
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
