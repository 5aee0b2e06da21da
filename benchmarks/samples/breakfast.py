"""A cup of coffee and oranges stand on a wooden table by the window."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Canvas, arch, bump, ramp, relief, step


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


def draw() -> Image.Image:
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
