"""Sticker scenes: images with exact masks, made on the spot of cut-out emoji.

`classes` names what is in the images, `atlas` holds the emoji, `textures` paints backgrounds,
`scenes` composes images and masks.
"""

from __future__ import annotations

from functools import partial

from ..base import Dataset, Sample, class_numbers
from . import scenes
from .classes import CLASSES, STICKERS


def sticker_scenes(
    kind: scenes.Kind, seed: int = scenes.VALIDATION_SEED, name: str = ""
) -> Dataset:
    """Make a data set of sticker scenes of a kind, by default the validation set."""
    vocabulary = tuple(STICKERS) if kind == "stickers" else CLASSES
    return Dataset(
        name=name or kind,
        vocabulary=vocabulary,
        background="always" if kind == "stickers" else "auto",
        images=scenes.VALIDATION_IMAGES,
        sample=partial(_sample, kind, seed, vocabulary),
    )


def _sample(kind: scenes.Kind, seed: int, vocabulary: tuple[str, ...], index: int) -> Sample:
    scene = scenes.scene(kind, seed, index)
    numbers = class_numbers(vocabulary, scene.classes)
    return Sample(scene.image, numbers[scene.labels], scene.classes)
