"""Makes the images that `pnp-ovss demo` shows, of stickers that are laid out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pnp_ovss.engine.evaluation.datasets.stickers import textures
from pnp_ovss.engine.evaluation.datasets.stickers.atlas import stickers
from pnp_ovss.engine.json_text import indented_json

OUTPUT = Path(__file__).resolve().parents[2] / "engine" / "data" / "samples"
SIZE = (640, 480)
_PAINTED = (320, 240)  # size in which textures are made, before they are enlarged to SIZE
_QUALITY = 88


@dataclass(frozen=True)
class Sticker:
    """Places a sticker in an image.

    Attributes:
        name: Class name of the sticker.
        center: Position of the sticker's center, x and y in pixels.
        side: Length of the sticker's longer side, in pixels.
        angle: Rotation of the sticker, in degrees, counterclockwise.
    """

    name: str
    center: tuple[int, int]
    side: int
    angle: float = 0


@dataclass(frozen=True)
class SampleImage:
    """Describes a sample image: one texture above another, and stickers on them.

    Attributes:
        file: File name of the image.
        description: Description of the image, a sentence.
        ground: Names of the textures, from the top; empty for a background that is no class.
        stickers: Stickers of the image, from the lowest layer.
        seed: Seed of the textures.
    """

    file: str
    description: str
    ground: tuple[str, ...]
    stickers: tuple[Sticker, ...]
    seed: int = 0

    @property
    def classes(self) -> list[str]:
        """Return the class names to segment."""
        return [sticker.name for sticker in self.stickers]


SAMPLES = (
    SampleImage(
        "beach.jpg",
        "A boat sails by a beach, on which a turtle rests beside an umbrella.",
        ("water", "sand"),
        (
            Sticker("sailing boat", (165, 150), 200, 4),
            Sticker("umbrella", (500, 250), 210, -12),
            Sticker("turtle", (270, 375), 170),
        ),
    ),
    SampleImage(
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
    SampleImage(
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
    """Write the images, and `samples.json` with the class names and description of each."""
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
    (OUTPUT / "samples.json").write_bytes(indented_json(listing))


def draw(sample: SampleImage) -> Image.Image:
    """Draw a sample image in RGB."""
    image = Image.fromarray(_ground(sample)).resize(SIZE, Image.Resampling.BICUBIC)
    cut_outs = stickers()
    for sticker in sample.stickers:
        cut_out = cut_outs[sticker.name]
        cut_out = cut_out.crop(cut_out.getbbox())
        scale = sticker.side / max(cut_out.size)
        size = (round(cut_out.width * scale), round(cut_out.height * scale))
        cut_out = cut_out.resize(size, Image.Resampling.LANCZOS)
        cut_out = cut_out.rotate(sticker.angle, Image.Resampling.BICUBIC, expand=True)
        left, top = (c - s // 2 for c, s in zip(sticker.center, cut_out.size, strict=True))
        image.paste(cut_out, (left, top), cut_out)
    return image


def _ground(sample: SampleImage) -> np.ndarray:
    width, height = _PAINTED
    rng = np.random.default_rng(sample.seed)
    if not sample.ground:
        return textures.background(rng, height, width)
    painted = [textures.TEXTURES[name](rng, height, width) for name in sample.ground]
    shore = textures.fractal(rng, 1, width, scale=2, octaves=4)[0]
    below = np.arange(height)[:, None] > height * (0.4 + 0.15 * shore)
    return np.where(below[..., None], painted[-1], painted[0])
