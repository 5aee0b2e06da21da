"""Name the things in an image, get a mask of each."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeVar, get_args, overload

import numpy as np
import numpy.typing as npt

from .errors import InputError, PnpOvssError
from .inputs.images import ImageLike, load_rgb
from .inputs.names import Classes, clean_names
from .methods import open_method
from .methods.base import Located, Method, Present, Request
from .model.folder import DEMO, ModelFolder, open_model
from .pipeline import stages
from .pipeline.stages import Pair
from .precision import PrecisionChoice
from .processors import processors
from .refine import refine
from .result.segmentation import Segmentation
from .runners.placement import Placement
from .settings import Settings
from .tracing import span

Result = TypeVar("Result")


class Segmenter:
    """A loaded model. Make one with `Segmenter.load`; it may be used as a context manager.

    Threads may share one: it holds no state of its own between calls.

    Attributes:
        model: the model folder and its manifest.
        method: what makes class maps with it.
        settings: what is used where the caller gives no settings: the manifest's recommendation.
        device: where the model runs, "cpu" or "cuda:N".
    """

    def __init__(self, model: ModelFolder, method: Method) -> None:
        self.model = model
        self.method = method
        self.settings: Settings = model.manifest.settings
        self.device: str = method.device.name

    @classmethod
    def load(
        cls,
        model: str | Path = DEMO,
        *,
        backend: str = "auto",
        device: str = "auto",
        precision: PrecisionChoice = "auto",
        verify: bool = True,
    ) -> Segmenter:
        """Load a model folder.

        Args:
            model: a folder that `pnp-ovss export` wrote, "demo", or a hub id that
                `pnp-ovss segment --model` has exported.
            backend: "auto", or a key of `runners.BACKENDS`.
            device: "auto", "cpu", "cuda" or "cuda:N". A device that was asked for and cannot be had
                is an error, never a fall-back.
            precision: "auto", "fp32", "fp16", "bf16" or "int8"; "auto" is the most exact that the
                backend has: fp32, or what a build was made in. See `engine/runners/README.md`.
            verify: compare the files' sha256 with the manifest.

        Raises:
            ModelError: the folder is missing, damaged, of a newer version, or made for tuning.
            BackendError: the backend, the device or the precision cannot be had.
        """
        found = open_model(model, verify=verify)
        method = open_method(found, backend=backend, device=device, precision=precision)
        return cls(found, method)

    @property
    def placement(self) -> Placement:
        """What runs the model, where and in which precision, and what "auto" passed over for it.

        A graph that is loaded when it is first needed is part of it from then on.
        """
        return self.method.placement

    def close(self) -> None:
        """Free the model."""
        self.method.close()

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
        classes: Classes,
        *,
        settings: Settings | None = None,
        present: Present = "given",
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: a PIL image, a uint8 array [H, W, 3], or a path.
            classes: the names to look for, of one or several words. In place of a name, a list of
                synonyms, the title first: `["cat", ["sofa", "couch"]]`; they share a mask.
            settings: by default those the model recommends.
            present: "given" takes every class to be in the image; "match" first drops those
                whose own caption the ITM head scores at or below `settings.match_threshold`. Either
                way every class is scored, which costs little for a few classes.

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
        """Segment several images, each with its own classes, in one batch; see `segment`."""
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
        """Segment images as they come, in order.

        While the model runs a batch, worker threads, no more than there are processors, decode the
        next one, and refine the one before, an image each. No more than these three batches are
        under way, and on a GPU no more than two images at once are refined.

        Args:
            pairs: images and their classes; read no faster than results are taken.
            batch_size: images a batch.
            settings: see `segment`.
            present: see `segment`.
            errors: what becomes of an image that cannot be segmented: "raise" its error when its
                turn comes, which ends the stream, or "return" it in place of the result.

        Raises:
            InputError, BackendError: as `segment` does.
        """
        if errors not in ("raise", "return"):
            raise InputError(f"errors is {errors!r}", 'it must be "raise" or "return"')
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r}", "it must be a whole number from 1")
        results = stages.stream(
            self.method,
            pairs,
            self._checked(settings, present),
            pair=lambda pair: pair,
            then=lambda _pair, _request, result: result,
            present=present,
            batch_size=batch_size,
        )
        return _raising(results) if errors == "raise" else results

    def prepare(
        self,
        image: ImageLike,
        classes: Classes,
        *,
        settings: Settings | None = None,
        present: Present = "given",
    ) -> Request:
        """Decode an image and encode class names, for `locate`; see `segment`.

        Raises:
            InputError: the image, a name or `present` cannot be used.
        """
        chosen = self._checked(settings, present)
        return stages.prepare(self.method, image, classes, chosen, present)

    def locate(self, requests: Sequence[Request]) -> list[Located]:
        """Make class maps of a batch of requests, each with its own classes and settings."""
        return self.method.locate(requests)

    def refine(
        self,
        image: ImageLike,
        located: Segmentation | Located | npt.NDArray[np.float32],
        settings: Settings | None = None,
    ) -> npt.NDArray[np.uint16]:
        """Make labels of an image from its class maps; no model runs.

        Args:
            image: the image that was segmented.
            located: its result, what `locate` gave for it, or class maps, float32 [C, gh, gw].
            settings: for threshold, blur, background and CRF; by default those the model
                recommends.

        Returns:
            uint16 [H, W], as in `Segmentation.labels`.

        Raises:
            InputError: the image or the class maps cannot be used, or are not of each other.
            BackendError: the CRF was asked for and is not installed.
        """
        chosen = self._checked(settings, "given")
        with span("decode"):
            rgb = load_rgb(image)
        if isinstance(located, Located):
            located.to_host()  # refuses what a broken model gave
            return stages.refine_located(rgb, located, chosen, processors())
        maps, present = located, None
        if isinstance(located, Segmentation):
            located.require_image(rgb)
            maps, present = located.class_maps, located.present
        return refine(
            rgb,
            np.asarray(maps),
            chosen,
            present=present,
            device=self.method.device,
            threads=processors(),
        )

    def check_classes(self, classes: Classes, settings: Settings | None = None) -> None:
        """Find out, before any image is read, whether this model can be asked for `classes`.

        Raises:
            InputError: a name is empty, or cannot be written in the model's vocabulary; or two are
                the same to the model.
        """
        self.method.encode(clean_names(classes), settings or self.settings)

    def _checked(self, settings: Settings | None, present: str) -> Settings:
        """The settings in force, which can be used."""
        if present not in get_args(Present):
            raise InputError(f"present is {present!r}", 'it must be "given" or "match"')
        chosen = self.settings if settings is None else settings
        if not isinstance(chosen, Settings):
            raise InputError(
                f"settings is {chosen!r}", "give a Settings, such as Settings(crf=None)"
            )
        return chosen


def _raising(results: Generator[Result | PnpOvssError, None, None]) -> Iterator[Result]:
    with closing(results):
        for result in results:
            if isinstance(result, PnpOvssError):
                raise result
            yield result
