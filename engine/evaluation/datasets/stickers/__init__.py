"""Sticker scenes: images with exact masks, made on the spot of cut-out emoji.

`classes` names what is in the images, `atlas` holds the emoji, `textures` paints backgrounds,
`scenes` composes images and masks.
"""

from __future__ import annotations

from ..base import Dataset, Sample
from . import scenes
from .classes import CLASSES, STICKERS


def sticker_scenes(
    kind: scenes.Kind, seed: int = scenes.VALIDATION_SEED, name: str = ""
) -> Dataset:
    """Sticker scenes of a kind: by default the validation set."""
    vocabulary = tuple(STICKERS) if kind == "stickers" else CLASSES

    def sample(index: int) -> Sample:
        scene = scenes.scene(kind, seed, index)
        return Sample(scene.image, dataset.numbers(scene.classes)[scene.labels], scene.classes)

    dataset = Dataset(
        name=name or kind,
        vocabulary=vocabulary,
        background="always" if kind == "stickers" else "auto",
        images=scenes.VALIDATION_IMAGES,
        sample=sample,
    )
    return dataset
