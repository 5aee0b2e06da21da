"""A model over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..methods.base import Present
from ..segmenter import Segmenter
from ..settings import Settings
from . import metrics
from .datasets.base import Dataset, Sample

Progress = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was counted over the images of a data set.

    Where a data set has no background, that is no class: none of the means below counts it, and
    pixels that were left to it are missing from the classes they are of.

    Attributes:
        dataset: what was segmented.
        counts: int64 [1 + V, 1 + V], pixels of each class (rows) given each label (columns).
        boundaries: boundary F-score of each class, [1 + V]; nan for one that was never seen.
        scores: of each image, the mean IoU over the classes in its truth or its labels.
        labels: of each image, uint16 [H, W], numbered as its truth is.
    """

    dataset: Dataset
    counts: np.ndarray
    boundaries: np.ndarray
    scores: np.ndarray
    labels: list[np.ndarray]

    @property
    def miou(self) -> float:
        """Mean IoU over the classes seen, as a fraction."""
        return mean_iou(self.counts, self.dataset)

    @property
    def boundary_f(self) -> float:
        """Mean boundary F-score over the classes seen, as a fraction."""
        return float(np.nanmean(self.boundaries[self.dataset.first_class :]))

    @property
    def per_class(self) -> dict[str, float | None]:
        """IoU of each class; None where it was never seen."""
        return self._by_name(metrics.iou(self.counts))

    @property
    def boundary_per_class(self) -> dict[str, float | None]:
        """Boundary F-score of each class; None where it was never seen."""
        return self._by_name(self.boundaries)

    @property
    def pixel_accuracy(self) -> float:
        """The part of the pixels that were given their class."""
        return metrics.pixel_accuracy(self.counts)

    def _by_name(self, values: np.ndarray) -> dict[str, float | None]:
        first = self.dataset.first_class
        named = zip(self.dataset.names[first:], values[first:].tolist(), strict=True)
        return {name: None if np.isnan(value) else round(value, 6) for name, value in named}


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    settings: Settings,
    *,
    present: Present = "given",
    images: int | None = None,
    batch_size: int = 8,
    progress: Progress = iter,
) -> Evaluation:
    """Segment the images of a data set and count.

    Args:
        segmenter: the model.
        dataset: what to segment.
        settings: in force for every image.
        present: "given" names the classes that are in an image, "match" the whole vocabulary.
        images: how many, from the first, at least one; all by default.
        batch_size: images that go through the model together.
        progress: is wrapped around the results, one an image.
    """
    classes = len(dataset.names)
    counts = np.zeros((classes, classes), np.int64)
    boundaries = metrics.BoundaryScores.of(classes)
    scores, labels = [], []
    samples: list[Sample] = []

    def pairs() -> Iterator[tuple[Image.Image, tuple[str, ...]]]:
        for index in range(dataset.images if images is None else images):
            samples.append(sample := dataset.sample(index))
            yield sample.image, sample.classes if present == "given" else dataset.vocabulary

    results = segmenter.stream(pairs(), batch_size=batch_size, settings=settings, present=present)
    for result in progress(results):
        truth = samples.pop(0).truth
        found = dataset.numbers(result.classes)[result.labels]
        own = metrics.confusion(truth, found, classes)
        counts += own
        boundaries.add(truth, found)
        scores.append(mean_iou(own, dataset))
        labels.append(found)
    return Evaluation(dataset, counts, boundaries.per_class(), np.array(scores), labels)


def mean_iou(counts: np.ndarray, dataset: Dataset) -> float:
    """Mean IoU over the classes of a data set that were seen, from counts [1 + V, 1 + V]."""
    return float(np.nanmean(metrics.iou(counts)[dataset.first_class :]))
