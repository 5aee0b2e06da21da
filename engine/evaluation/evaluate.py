"""Run a model over a data set and count."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image

from ..errors import InputError
from ..methods.base import Present
from ..result.files import describe
from ..segmenter import Segmenter
from ..settings import Settings
from .datasets.base import Dataset
from .metrics import BoundaryScores, Confusion, rounded

Item = TypeVar("Item")
_OF_A_MACHINE = ("device", "backend", "builds", "passed_over")  # of what `describe` tells


class Progress(Protocol):
    """Something that shows how far a run is, such as a bar."""

    def __call__(self, items: Iterable[Item], length: int, label: str) -> Iterable[Item]:
        """Wrap `length` items, which come one an image; `label` tells the run."""
        ...


def silent(items: Iterable[Item], length: int, label: str) -> Iterable[Item]:
    """Show no progress."""
    return items


class _Packed(NamedTuple):
    """A label map, compressed: a few kilobytes for that of a photograph."""

    shape: tuple[int, ...]
    data: bytes


@dataclass(eq=False)
class Evaluation:
    """Scores of a model on images of a data set, counted image by image.

    It can be pickled, so processes may count images each, and merge their evaluations. If a data
    set has no background, no mean counts it, and pixels labeled as background are missing from
    their classes.

    Attributes:
        dataset: data set that was segmented.
        settings: settings in force for every image.
        present: which names were given, see `evaluate`.
        model: model that ran, as `result.files.describe` returns it. What differs between merged
            parts of where they ran, such as the device, is None.
        confusion: pixels of each class that were given each label, [1 + V, 1 + V].
        boundaries: boundary F-scores, [1 + V].
        scores: mean IoU of each image over the classes in its truth or its labels, by its index.
    """

    dataset: Dataset
    settings: Settings
    present: Present = "given"
    model: dict[str, Any] = field(default_factory=dict)
    confusion: Confusion = field(init=False)
    boundaries: BoundaryScores = field(init=False)
    scores: dict[int, float] = field(init=False, default_factory=dict)
    _label_maps: dict[int, _Packed] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Start with no image counted."""
        classes, ignore = len(self.dataset.names), self.dataset.ignore
        self.confusion = Confusion.of(classes, ignore)
        self.boundaries = BoundaryScores.of(classes, ignore)

    def add(
        self, index: int, truth: np.ndarray, labels: np.ndarray, *, keep_labels: bool = False
    ) -> None:
        """Count an image.

        Args:
            index: index of the image in the data set.
            truth: integers [H, W], numbered as the data set numbers its classes.
            labels: integers [H, W], numbered as the truth is.
            keep_labels: keep the label map for figures.

        Raises:
            InputError: a value is not a class, or the image was counted before.
        """
        self._refuse_twice({index})
        alone = Confusion.of(len(self.dataset.names), self.dataset.ignore)
        try:
            alone.add(truth, labels)
            self.boundaries.add(truth, labels)
        except InputError as error:
            where = f"image {index} of {self.dataset.name}"
            raise InputError(f"{where}: {error.cause}", error.cure) from error
        self.confusion = self.confusion.merge(alone)
        self.scores[index] = alone.mean_iou(self.dataset.first_class)
        if keep_labels:
            packed = zlib.compress(labels.astype(np.uint16).tobytes(), 1)
            self._label_maps[index] = _Packed(labels.shape, packed)

    def merge(self, other: Evaluation) -> Evaluation:
        """Return the scores of both, as if one had counted all images.

        Raises:
            InputError: they are not of the same data set, settings and model, or both have counted
                an image.
        """
        facts, others = self._facts(), other._facts()
        for name in sorted({*facts, *others}):
            one, two = facts.get(name), others.get(name)
            if one != two:
                raise InputError(
                    f"evaluations of different {name}: {one} and {two}",
                    "merge parts of the same evaluation",
                )
        self._refuse_twice(other.scores.keys())
        model = self.model | {
            name: None for name in _OF_A_MACHINE if self.model.get(name) != other.model.get(name)
        }
        merged = replace(self, model=model)
        merged.confusion = self.confusion.merge(other.confusion)
        merged.boundaries = self.boundaries.merge(other.boundaries)
        merged.scores = {**self.scores, **other.scores}
        merged._label_maps = {**self._label_maps, **other._label_maps}
        return merged

    @property
    def miou(self) -> float:
        """Mean IoU over the classes seen, as a fraction; nan where none was."""
        return self.confusion.mean_iou(self.dataset.first_class)

    @property
    def boundary_f(self) -> float:
        """Mean boundary F-score over the classes seen, as a fraction; nan where none was."""
        return self.boundaries.mean(self.dataset.first_class)

    @property
    def pixel_accuracy(self) -> float:
        """Part of the pixels that were given their class; nan where none was counted."""
        return self.confusion.pixel_accuracy()

    @property
    def per_class(self) -> dict[str, float | None]:
        """IoU of each class; None where it was never seen."""
        return self._by_name(self.confusion.iou())

    @property
    def boundary_per_class(self) -> dict[str, float | None]:
        """Boundary F-score of each class; None where it was never seen."""
        return self._by_name(self.boundaries.per_class())

    @property
    def with_labels(self) -> list[int]:
        """Indices of the images whose label maps were kept."""
        return sorted(self._label_maps)

    def labels(self, index: int) -> np.ndarray:
        """Return the label map of an image that is in `with_labels`, uint16 [H, W].

        Raises:
            InputError: it was not kept.
        """
        if index not in self._label_maps:
            raise InputError(
                f"the label map of image {index} of {self.dataset.name} was not kept",
                "count the image with keep_labels=True",
            )
        shape, data = self._label_maps[index]
        return np.frombuffer(zlib.decompress(data), np.uint16).reshape(shape)

    def _by_name(self, values: np.ndarray) -> dict[str, float | None]:
        first = self.dataset.first_class
        named = zip(self.dataset.names[first:], values[first:].tolist(), strict=True)
        return {name: rounded(value) for name, value in named}

    def _facts(self) -> dict[str, Any]:
        """Collect what parts of one evaluation must share; devices and backends may differ."""
        names = [item.name for item in fields(Dataset) if item.name != "sample"]
        dataset = {name: getattr(self.dataset, name) for name in names}
        model = {key: value for key, value in self.model.items() if key not in _OF_A_MACHINE}
        parts = {"data set": dataset, "settings": asdict(self.settings), "model": model}
        named = {f"{part}: {key}": value for part, of in parts.items() for key, value in of.items()}
        return {"present": self.present, **named}

    def _refuse_twice(self, indices: Iterable[int]) -> None:
        for index in self.scores.keys() & indices:
            raise InputError(
                f"image {index} of {self.dataset.name} was counted before", "count each image once"
            )


def evaluate(
    segmenter: Segmenter,
    dataset: Dataset,
    settings: Settings | None = None,
    *,
    present: Present = "given",
    images: int | Sequence[int] | None = None,
    batch_size: int = 8,
    keep_labels: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Segment images of a data set and count.

    Args:
        segmenter: the model.
        dataset: the data set.
        settings: settings in force for every image; by default those the model recommends, with the
            data set's rule about the background.
        present: "given" names the classes that are in an image, "match" the whole vocabulary. An
            image for which there is nothing to name is all background.
        images: number of images, from the first; or their indices; all by default.
        batch_size: number of images that go through the model together.
        keep_labels: keep the label maps, compressed, for the contact sheet.
        progress: shows how far it is.

    Raises:
        InputError: there are no such images; a class or label is not one of the data set's; or the
            model cannot write a class name.
        PnpOvssError: an image cannot be segmented; see `Segmenter.segment`.
    """
    settings = settings or dataset.adapt(segmenter.settings)
    indices = dataset.indices(images)
    segmenter.check_classes(dataset.vocabulary, settings)
    evaluation = Evaluation(dataset, settings, present)
    waiting: deque[tuple[int, np.ndarray, tuple[str, ...]]] = deque()  # in order, with their names

    def pairs() -> Iterator[tuple[Image.Image, tuple[str, ...]]]:
        for index in indices:
            sample = dataset.read(index)
            classes = sample.classes if present == "given" else dataset.vocabulary
            waiting.append((index, sample.truth, classes))
            if classes:
                yield sample.image, classes

    def background() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        while waiting and not waiting[0][2]:
            index, truth, _ = waiting.popleft()
            yield index, truth, np.zeros(truth.shape, np.uint16)

    def labeled() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        for result in segmenter.stream(
            pairs(), batch_size=batch_size, settings=settings, present=present
        ):
            yield from background()
            index, truth, _ = waiting.popleft()
            yield index, truth, dataset.numbers(result.classes)[result.labels]
        yield from background()

    for index, truth, labels in progress(labeled(), len(indices), dataset.name):
        evaluation.add(index, truth, labels, keep_labels=keep_labels)
    # Told at the end, as graphs may be loaded when they first run.
    evaluation.model = describe(segmenter.model.manifest, segmenter.placement)
    return evaluation
