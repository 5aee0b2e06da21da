"""Read the cut-out emoji, which were rendered once so that nothing needs the font."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .classes import STICKERS

FILE = Path(__file__).parent / "data" / "atlas.png"
CELL = (136, 128)  # the size of Noto Color Emoji's bitmaps, width and height
COLUMNS = 8
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
_FONT_SIZE = 109  # the only size the bitmaps have


@cache
def stickers() -> dict[str, Image.Image]:
    """Read the RGBA cut-out of each class name."""
    with Image.open(FILE) as file:
        sheet = file.convert("RGBA")
    return {name: sheet.crop(_box(index)) for index, name in enumerate(STICKERS)}


def render(font: Path = FONT) -> None:
    """Draw the atlas anew.

    Args:
        font: Noto Color Emoji with bitmaps; on Debian the package `fonts-noto-color-emoji`.
    """
    rows = -(-len(STICKERS) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * CELL[0], rows * CELL[1]))
    emoji = ImageFont.truetype(str(font), _FONT_SIZE)
    for index, symbol in enumerate(STICKERS.values()):
        cell = Image.new("RGBA", CELL)
        ImageDraw.Draw(cell).text((0, 0), symbol, font=emoji, embedded_color=True)
        sheet.paste(cell, _box(index))
    FILE.parent.mkdir(exist_ok=True)
    sheet.save(FILE, optimize=True)


def _box(index: int) -> tuple[int, int, int, int]:
    left, top = index % COLUMNS * CELL[0], index // COLUMNS * CELL[1]
    return left, top, left + CELL[0], top + CELL[1]
