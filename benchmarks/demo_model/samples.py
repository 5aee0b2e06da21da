"""The pictures that `pnp-ovss demo` shows: stickers laid out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from pnp_ovss.engine.evaluation.datasets.stickers import textures
from pnp_ovss.engine.evaluation.datasets.stickers.atlas import stickers

OUTPUT = Path(__file__).resolve().parents[2] / "engine" / "data" / "samples"
SIZE = (640, 480)
_PAINTED = (320, 240)  # textures are made for pictures of this scale, and enlarged
_QUALITY = 88


@dataclass(frozen=True)
class Sticker:
    """A sticker in a picture; places and sizes in pixels, the angle in degrees."""

    name: str
    center: tuple[int, int]
    side: int
    angle: float = 0


@dataclass(frozen=True)
class SamplePicture:
    """A picture: one texture above another (or a background without a name), and stickers."""

    file: str
    description: str
    ground: tuple[str, ...]
    stickers: tuple[Sticker, ...]
    seed: int = 0

    @property
    def classes(self) -> list[str]:
        """Classes to look for."""
        return [sticker.name for sticker in self.stickers]


SAMPLES = (
    SamplePicture(
        "beach.jpg",
        "A boat sails by a beach, on which a turtle rests beside an umbrella.",
        ("water", "sand"),
        (
            Sticker("sailing boat", (165, 150), 200, 4),
            Sticker("umbrella", (500, 250), 210, -12),
            Sticker("turtle", (270, 375), 170),
        ),
    ),
    SamplePicture(
        "party.jpg",
        "A teddy bear, a birthday cake and a soccer ball.",
        (),
        (
            Sticker("teddy bear", (150, 240), 250, 6),
            Sticker("birthday cake", (380, 290), 240),
            Sticker("soccer ball", (540, 130), 150, 20),
        ),
        seed=4,
    ),
    SamplePicture(
        "picnic.jpg",
        "A picnic in the snow: grapes, hot dog, watermelon; a ladybug has come, too.",
        ("snow",),
        (
            Sticker("grapes", (160, 150), 210, 10),
            Sticker("hot dog", (420, 140), 230, -15),
            Sticker("watermelon", (240, 360), 200, 8),
            Sticker("ladybug", (520, 350), 150, -30),
        ),
    ),
)


def make() -> None:
    """Write the pictures, and `samples.json`, which says what to look for in each."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    listing = []
    for sample in SAMPLES:
        draw(sample).save(OUTPUT / sample.file, quality=_QUALITY, optimize=True)
        listing.append(
            {
                "file": sample.file,
                "classes": sample.classes,
                "description": sample.description,
            }
        )
    text = msgspec.json.format(msgspec.json.encode(listing), indent=2)
    (OUTPUT / "samples.json").write_bytes(text + b"\n")


def draw(sample: SamplePicture) -> Image.Image:
    """The picture, RGB."""
    picture = Image.fromarray(_ground(sample)).resize(SIZE, Image.Resampling.BICUBIC)
    cut_outs = stickers()
    for sticker in sample.stickers:
        cut_out = cut_outs[sticker.name]
        cut_out = cut_out.crop(cut_out.getbbox())
        scale = sticker.side / max(cut_out.size)
        size = (round(cut_out.width * scale), round(cut_out.height * scale))
        cut_out = cut_out.resize(size, Image.Resampling.LANCZOS)
        cut_out = cut_out.rotate(sticker.angle, Image.Resampling.BICUBIC, expand=True)
        left, top = (c - s // 2 for c, s in zip(sticker.center, cut_out.size, strict=True))
        picture.paste(cut_out, (left, top), cut_out)
    return picture


def _ground(sample: SamplePicture) -> np.ndarray:
    width, height = _PAINTED
    rng = np.random.default_rng(sample.seed)
    if not sample.ground:
        return textures.background(rng, height, width)
    painted = [textures.TEXTURES[name](rng, height, width) for name in sample.ground]
    shore = textures.fractal(rng, 1, width, scale=2, octaves=4)[0]
    below = np.arange(height)[:, None] > height * (0.4 + 0.15 * shore)
    return np.where(below[..., None], painted[-1], painted[0])
