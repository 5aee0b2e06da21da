"""Score every cross-attention layer and head by itself: which of them knows where things are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from ..errors import InputError
from ..methods.pnp_ovss.every_map import every_map, layers_and_heads
from ..methods.pnp_ovss.locate import PnpOvss
from ..pipeline.stages import prepare
from ..refine import refine
from ..result.files import describe
from ..settings import Settings
from .datasets.base import Dataset, Sample
from .evaluate import Progress, silent
from .metrics import Confusion

_SHOWN = 3  # classes, as near as can be, in the image that is drawn


@dataclass(frozen=True, eq=False)
class Sweep:
    """Scores of each layer and head by itself.

    Attributes:
        dataset: data set that was segmented.
        settings: settings in force for every image.
        model: model that was run, as `result.files.describe` tells it.
        images: number of images.
        layers: layers, as numbered in the model, L of them.
        heads: heads, as numbered in the model, H of them.
        miou: mean IoU of each as a fraction, float64 [L, H].
        sample: image that `maps` are of.
        maps: salience of its classes, float32 [L, H, C, gh, gw].
    """

    dataset: Dataset
    settings: Settings
    model: dict[str, Any]
    images: int
    layers: list[int]
    heads: list[int]
    miou: np.ndarray
    sample: Sample
    maps: np.ndarray


def sweep(
    method: PnpOvss,
    dataset: Dataset,
    settings: Settings | None = None,
    *,
    images: int | Sequence[int] | None = None,
    progress: Progress = silent,
) -> Sweep:
    """Segment with each layer and head by itself, in one pass without a CRF, and count.

    Args:
        method: method with a model that keeps every map apart, as `open_every_map` loads it.
        dataset: data set; the classes of each image are given.
        settings: threshold, blur and background; by default those the model recommends, with the
            data set's rule about the background.
        images: number of images, from the first; or their indices; all by default.
        progress: shows how far it is.

    Raises:
        InputError: there are no such images, or none with a class; a class or label is not one of
            the data set's; or the model cannot write a class name.
        ExecutionError: a value of the model is not finite.
    """
    manifest = method.graphs.manifest
    settings = replace(settings or dataset.adapt(manifest.settings), passes=1, crf=None)
    method.encode(dataset.vocabulary, settings)  # refuses a name before any work
    indices = dataset.indices(images)
    layers, heads = layers_and_heads(method)
    counts = [[Confusion.of(len(dataset.names), dataset.ignore) for _ in heads] for _ in layers]
    shown: list[tuple[Sample, np.ndarray]] = []
    for index in progress(indices, len(indices), dataset.name):
        sample = dataset.read(index)
        if not sample.classes:
            for one in chain.from_iterable(counts):
                one.add(sample.truth, np.zeros(sample.truth.shape, np.uint16))
            continue
        request = prepare(method, sample.image, sample.classes, settings)
        maps = every_map(method, request)
        shown = [min([*shown, (sample, maps)], key=lambda one: abs(len(one[0].classes) - _SHOWN))]
        numbers = dataset.numbers(sample.classes)
        for row, column in np.ndindex(maps.shape[:2]):
            labels = refine(request.image, maps[row, column], settings)
            counts[row][column].add(sample.truth, numbers[labels])
    if not shown:
        raise InputError(f"no image of {dataset.name} has a class", "take more images")
    miou = np.array([[one.mean_iou(dataset.first_class) for one in row] for row in counts])
    model = describe(manifest, method.placement)
    return Sweep(dataset, settings, model, len(indices), layers, heads, miou, *shown[0])
