"""Name the things in a picture, get a mask of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, ParamSpec, TypeVar, overload

import numpy as np
from PIL import Image

from . import artifact, crf, dropout, images, pipeline, refine
from .caption import Captioner, CaptionTokens, clean_names
from .errors import InputError, ModelError, PnpOvssError
from .images import ImageLike
from .runners import open_runner
from .segmentation import Segmentation
from .settings import Settings

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Present = Literal["given", "match"]
Pair = tuple[ImageLike, Sequence[str]]


@dataclass(frozen=True)
class _Query:
    """A picture and the classes to look for in it."""

    image: Image.Image
    classes: list[str]
    alone: list[CaptionTokens]  # a caption for each class by itself


@dataclass(frozen=True)
class _Found:
    """A picture after the passes, before refinement."""

    query: _Query
    present: list[int]  # indices of the classes that were looked for
    class_maps: np.ndarray  # [C, p, p]
    match: np.ndarray  # [K]
    scores: np.ndarray  # [C]


class Segmenter:
    """A loaded model. Make one with `Segmenter.load`; it may be used as a context manager.

    Attributes:
        model: the model folder and its manifest.
        settings: what is used where the caller gives no settings: the manifest's recommendation.
        device: where the model runs, "cpu" or "cuda:N".
    """

    def __init__(self, model: artifact.Artifact, network: dropout.Network) -> None:
        self.model = model
        self.settings = model.manifest.settings
        self.device = network.vision.device
        self._network = network

    @classmethod
    def load(
        cls,
        model: str | Path = artifact.DEMO,
        *,
        backend: str = "auto",
        device: str = "auto",
        verify: bool = True,
    ) -> Segmenter:
        """Load a model folder.

        Args:
            model: a folder that `pnp-ovss export` wrote, a hub id exported earlier, or "demo".
            backend: "auto" or "onnxruntime".
            device: "auto", "cpu", "cuda" or "cuda:N". A device that was asked for and cannot be had
                is an error, never a fall-back.
            verify: compare the files' sha256 with the manifest.

        Raises:
            ModelError: the folder is missing, damaged, of a newer version, or made for tuning.
            BackendError: the backend or the device cannot be had.
        """
        found = artifact.open_artifact(model, verify=verify)
        if found.manifest.all_heads:
            raise ModelError(
                f"'{found.path}' was exported with --all-heads, for tuning",
                "export it again with --layer and --head to segment with it",
            )
        captioner = Captioner.load(found)
        vision, salience = (
            open_runner(found.path / name, backend=backend, device=device)
            for name in (artifact.VISION, artifact.SALIENCE)
        )
        patch = found.manifest.patch_size
        return cls(found, dropout.Network(vision, salience, captioner, patch))

    def close(self) -> None:
        """Free the model."""
        self._network.vision.close()
        self._network.salience.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def segment(
        self,
        image: ImageLike,
        classes: Sequence[str],
        *,
        settings: Settings | None = None,
        present: Present = "given",
    ) -> Segmentation:
        """Segment one picture.

        Args:
            image: a PIL image, a uint8 array [H, W, 3], or a path.
            classes: the names to look for, of one or several words.
            settings: by default those the model recommends.
            present: "given" takes every class to be in the picture; "match" first drops those
                whose own caption the ITM head scores at or below `settings.match_threshold`.

        Raises:
            InputError: the image, a name or `present` cannot be used.
            BackendError: the CRF was asked for and is not installed.
        """
        return self.segment_batch([(image, classes)], settings=settings, present=present)[0]

    def segment_batch(
        self,
        pairs: Sequence[Pair],
        *,
        settings: Settings | None = None,
        present: Present = "given",
    ) -> list[Segmentation]:
        """Segment several pictures, each with its own classes, in one batch; see `segment`."""
        return list(
            self.stream(pairs, batch_size=max(1, len(pairs)), settings=settings, present=present)
        )

    @overload
    def stream(
        self,
        pairs: Iterable[Pair],
        *,
        batch_size: int = 8,
        settings: Settings | None = None,
        present: Present = "given",
        errors: Literal["raise"] = "raise",
    ) -> Iterator[Segmentation]: ...

    @overload
    def stream(
        self,
        pairs: Iterable[Pair],
        *,
        batch_size: int = 8,
        settings: Settings | None = None,
        present: Present = "given",
        errors: Literal["return"],
    ) -> Iterator[Segmentation | PnpOvssError]: ...

    def stream(
        self,
        pairs: Iterable[Pair],
        *,
        batch_size: int = 8,
        settings: Settings | None = None,
        present: Present = "given",
        errors: Literal["raise", "return"] = "raise",
    ) -> Iterator[Segmentation | PnpOvssError]:
        """Segment pictures as they come, in order.

        Refinement and CRF of a batch run on a worker thread while the model runs the next batch.

        Args:
            pairs: pictures and their classes; read no faster than results are taken.
            batch_size: pictures a batch.
            settings: see `segment`.
            present: see `segment`.
            errors: what becomes of a picture that cannot be segmented: "raise" its error when its
                turn comes, which ends the stream, or "return" it in place of the result.

        Raises:
            InputError, BackendError: as `segment` does.
        """
        chosen = self._check(settings, present)
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}", "it must be at least 1")
        results = pipeline.overlap(
            pairs,
            lambda batch: self._find(batch, chosen, present),
            lambda found: _attempt(self._finish, found, chosen),
            batch_size,
        )
        return _raising(results) if errors == "raise" else results

    def check_classes(self, classes: Sequence[str], settings: Settings | None = None) -> None:
        """Find out, before any picture is read, whether this model can be asked for `classes`.

        Raises:
            InputError: a name is empty, repeated, or cannot be written in the model's vocabulary.
        """
        join = (settings or self.settings).join_words
        self._network.captioner.write(clean_names(classes), join=join)

    def _check(self, settings: Settings | None, present: str) -> Settings:
        if present not in ("given", "match"):
            raise InputError(f"present is {present!r}", 'it must be "given" or "match"')
        chosen = settings or self.settings
        if chosen.crf is not None:
            crf.require()
        return chosen

    def _find(
        self, pairs: Sequence[Pair], settings: Settings, present: Present
    ) -> list[_Found | PnpOvssError]:
        """Everything up to the class maps, for a batch; an error for a picture that has none."""
        queries = [_attempt(self._query, image, names, settings) for image, names in pairs]
        found = iter(self._look([q for q in queries if isinstance(q, _Query)], settings, present))
        return [next(found) if isinstance(query, _Query) else query for query in queries]

    def _query(self, image: ImageLike, classes: Sequence[str], settings: Settings) -> _Query:
        names = clean_names(classes)
        write = self._network.captioner.write
        alone = [write([name], join=settings.join_words)[0] for name in names]
        return _Query(images.load_rgb(image), names, alone)

    def _look(
        self, queries: Sequence[_Query], settings: Settings, present: Present
    ) -> list[_Found]:
        if not queries:
            return []
        manifest, network = self.model.manifest, self._network
        pixels = np.stack([images.preprocess(q.image, manifest.image_size) for q in queries])
        embeds = network.embed(pixels)
        found = [
            self._not_looked_at(query, network.match(own, query.alone), settings, present)
            for query, own in zip(queries, embeds, strict=True)
        ]
        rows = [row for row, one in enumerate(found) if one.present]
        if not rows:
            return found
        captions = [
            network.captioner.write(
                [found[row].query.classes[i] for i in found[row].present],
                indices=found[row].present,
                join=settings.join_words,
            )
            for row in rows
        ]
        totals = dropout.salience_dropout(network, pixels[rows], embeds[rows], captions, settings)
        for row, written, total in zip(rows, captions, totals, strict=True):
            maps = dropout.class_maps(
                total.salience,
                written,
                len(found[row].query.classes),
                sum_last=settings.sum_last_class,
            )
            found[row] = replace(found[row], class_maps=maps, match=total.match)
        return found

    def _not_looked_at(
        self, query: _Query, scores: np.ndarray, settings: Settings, present: Present
    ) -> _Found:
        level = settings.match_threshold if present == "match" else -np.inf
        grid = self.model.manifest.grid
        return _Found(
            query,
            present=np.flatnonzero(scores > level).tolist(),
            class_maps=np.zeros((len(scores), grid, grid), np.float32),
            match=np.zeros(0, np.float32),
            scores=scores,
        )

    def _finish(self, found: _Found | PnpOvssError, settings: Settings) -> Segmentation:
        """Refinement and CRF of one picture."""
        if isinstance(found, PnpOvssError):
            raise found
        classes = found.query.classes
        return Segmentation(
            labels=_labels(found, settings),
            class_maps=found.class_maps,
            match=found.match,
            scores=found.scores,
            classes=tuple(classes),
            present=tuple(index in found.present for index in range(len(classes))),
        )


def _labels(found: _Found, settings: Settings) -> np.ndarray:
    image = found.query.image
    if not found.present:
        return np.zeros((image.height, image.width), np.uint16)
    maps = found.class_maps[found.present]
    channels = refine.channels(maps, image.height, image.width, settings)
    if settings.crf is not None:
        channels = crf.marginals(image, channels)
    labels = np.array(found.present, np.uint16) + np.uint16(1)
    if len(channels) > len(labels):
        labels = np.concatenate([np.zeros(1, np.uint16), labels])
    return labels[channels.argmax(axis=0)]


def _attempt(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result | PnpOvssError:
    """A picture that fails must fail alone: its error takes the place of its result."""
    try:
        return function(*args, **kwargs)
    except PnpOvssError as error:
        return error


def _raising(results: Iterator[Result | PnpOvssError]) -> Iterator[Result]:
    for result in results:
        if isinstance(result, PnpOvssError):
            raise result
        yield result
