"""Every cross-attention layer and head by itself: which of them knows where things are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..methods.pnp_ovss.every_map import every_map, layers_and_heads
from ..methods.pnp_ovss.locate import PnpOvss
from ..pipeline.stages import prepare
from ..refine import refine
from ..settings import Settings
from . import metrics
from .datasets.base import Dataset, Sample
from .evaluate import Progress, mean_iou

_SHOWN = 3  # classes, as near as can be, in the image that is drawn


@dataclass(frozen=True, eq=False)
class Sweep:
    """What each layer and head found by itself.

    Attributes:
        layers: as numbered in the model.
        heads: likewise.
        miou: as fractions, [L, H].
        sample: the image that `maps` are of.
        maps: salience of its classes, float32 [L, H, C, gh, gw].
    """

    layers: list[int]
    heads: list[int]
    miou: np.ndarray
    sample: Sample
    maps: np.ndarray


def sweep(
    method: PnpOvss,
    dataset: Dataset,
    settings: Settings,
    *,
    images: int | None = None,
    progress: Progress = iter,
) -> Sweep:
    """Segment with one pass of each layer and head, without a CRF.

    Args:
        method: with a model that keeps every map apart, as `open_every_map` loads it.
        dataset: what to segment, the classes of each image given.
        settings: for threshold, blur and background.
        images: how many, from the first; all by default.
        progress: is wrapped around the images.
    """
    layers, heads = layers_and_heads(method)
    settings = replace(settings, crf=None)
    classes = len(dataset.names)
    counts = np.zeros((len(layers), len(heads), classes, classes), np.int64)
    shown: list[tuple[Sample, np.ndarray]] = []
    for index in progress(range(dataset.images if images is None else images)):
        sample = dataset.sample(index)
        request = prepare(method, sample.image, sample.classes, settings)
        maps = every_map(method, request)
        shown = [min([*shown, (sample, maps)], key=lambda one: abs(len(one[0].classes) - _SHOWN))]
        numbers = dataset.numbers(sample.classes)
        for place in np.ndindex(maps.shape[:2]):
            found = numbers[refine(request.image, maps[place], settings)]
            counts[place] += metrics.confusion(sample.truth, found, classes)
    miou = np.array([[mean_iou(own, dataset) for own in row] for row in counts])
    return Sweep(layers, heads, miou, *shown[0])
