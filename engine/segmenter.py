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

from .errors import InputError, PnpOvssError, of_one_image, shown
from .inputs.images import ImageLike, load_rgb
from .inputs.names import Classes, clean_names
from .methods import open_method
from .methods.base import Located, Method, Present, Request
from .methods.loaded import LoadedModel
from .model.folder import DEMO, ModelFolder, open_model
from .pipeline import stages
from .pipeline.pairs import Pair, given, taken
from .precision import PrecisionChoice
from .processors import thread_count
from .refine import refine
from .result.segmentation import Segmentation
from .runners.placement import Placement
from .settings import Settings
from .tracing import span

Result = TypeVar("Result")


class Segmenter:
    """A loaded model. Make one with `Segmenter.load`; it may be used as a context manager.

    Threads may share one: it holds no state of its own between calls. A forked child loads the
    model again when it first uses it, and so does whoever unpickles one: the same files, on the
    same backend and device. Give a pool of processes one in its initializer, not with each task.

    Attributes:
        settings: what is used where the caller gives no settings: the manifest's recommendation.
        device: where the model runs, "cpu" or "cuda:N".
        threads: number of threads that it may use; None for one each processor.
    """

    def __init__(
        self,
        model: ModelFolder,
        method: Method,
        *,
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        fetch_urls: bool = False,
    ) -> None:
        self._loaded = LoadedModel(model, method, precision=precision, threads=threads)
        self.settings: Settings = model.manifest.settings
        self.device: str = method.device.name
        self.threads = threads
        self._fetch_urls = fetch_urls

    @classmethod
    def load(
        cls,
        model: str | Path = DEMO,
        *,
        backend: str = "auto",
        device: str = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        fetch_urls: bool = False,
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
            threads: number of threads of the CPU that the model may use at a time, and as many
                that prepare and refine images; by default one for each processor.
            fetch_urls: whether an image may be given as a URL, which is then fetched.
            verify: compare the files' sha256 with the manifest.

        Raises:
            InputError: `threads` is no number of threads.
            ModelError: the folder is missing, damaged, of a newer version, or made for tuning.
            BackendError: the backend, the device or the precision cannot be had.
        """
        thread_count(threads)  # refuses what is none
        for name, value in (("fetch_urls", fetch_urls), ("verify", verify)):
            if not isinstance(value, bool):
                raise InputError(f"{name} is {shown(value)}", "it must be True or False")
        folder = open_model(model, verify=verify)
        method = open_method(
            folder, backend=backend, device=device, precision=precision, threads=threads
        )
        return cls(folder, method, precision=precision, threads=threads, fetch_urls=fetch_urls)

    @property
    def model(self) -> ModelFolder:
        """The model folder and its manifest."""
        return self._loaded.folder

    @property
    def method(self) -> Method:
        """What makes class maps with the model; in a forked child it is loaded on first use."""
        return self._loaded.method

    @property
    def placement(self) -> Placement:
        """What runs the model, where and in which precision, and what "auto" passed over for it.

        A graph that is loaded when it is first needed is part of it from then on.
        """
        return self.method.placement

    def close(self) -> None:
        """Free the model."""
        self._loaded.close()

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
            image: a PIL image, a uint8 array [H, W, 3] in RGB, a path, the bytes of an image file,
                or a file object. It may be a URL if the model was loaded with `fetch_urls`. Labels
                are of the image as it is shown: turned as its EXIF tells.
            classes: the names to look for, of one or several words. In place of a name, a list of
                synonyms, the title first: `["cat", ["sofa", "couch"]]`; they share a mask.
            settings: by default those the model recommends, `self.settings`; others start from the
                paper's. To change one: `dataclasses.replace(segmenter.settings, crf=None)`.
            present: "given" takes every class to be in the image; "match" first drops those
                whose own caption the ITM head scores at or below `settings.match_threshold`. Either
                way every class is scored, which costs little for a few classes.

        Raises:
            InputError: the image, a name or `present` cannot be used, or memory does not suffice.
            BackendError: the CRF was asked for and is not installed.
            ExecutionError: anything else went wrong; its `__cause__` tells more.
        """
        chosen = self._checked(settings, present)
        threads = thread_count(self.threads)
        try:
            return stages.segment(
                self.method, image, classes, chosen, present, threads, self._fetch_urls
            )
        except Exception as error:
            made = of_one_image(error)
            try:
                if made is error:
                    raise
                raise made from error
            finally:
                del made  # whose traceback has this frame

    def segment_batch(
        self,
        pairs: Iterable[Pair],
        *,
        settings: Settings | None = None,
        present: Present = "given",
    ) -> list[Segmentation]:
        """Segment several images, each with its own classes, in one batch; see `segment`."""
        chosen = self._checked(settings, present)
        batch = list(taken(pairs, fetch_urls=self._fetch_urls))
        return list(_raising(self._stream(batch, max(1, len(batch)), chosen, present)))

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

        What is yielded is what is segmented: arrays, opened images, file objects and lists of names
        are taken when they are handed over, on the caller's thread. So a frame buffer may be filled
        again, and a file closed, at once. Paths and URLs are read later, on other threads.

        While the model runs a batch, worker threads, no more than there are processors, decode the
        next one, and refine the one before, an image each. No more than these three batches are
        under way, and on a GPU no more than two images at once are refined.

        Args:
            pairs: images and their classes; read no faster than results are taken.
            batch_size: images a batch.
            settings: see `segment`.
            present: see `segment`.
            errors: what becomes of an image that cannot be segmented, whatever the reason: "raise"
                its error when its turn comes, which ends the stream, or "return" it in place of the
                result.

        Raises:
            InputError, BackendError, ExecutionError: as `segment` does.
        """
        if not isinstance(errors, str) or errors not in ("raise", "return"):
            raise InputError(f"errors is {shown(errors)}", 'it must be "raise" or "return"')
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise InputError(f"batch_size is {shown(batch_size)}", "give a whole number from 1")
        chosen = self._checked(settings, present)
        results = self._stream(
            taken(pairs, fetch_urls=self._fetch_urls), batch_size, chosen, present
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
        return stages.prepare(
            self.method, image, classes, chosen, present, fetch_urls=self._fetch_urls
        )

    def locate(self, requests: Sequence[Request]) -> list[Located]:
        """Make class maps of a batch of requests, each with its own classes and settings."""
        if not isinstance(requests, Sequence) or not all(
            isinstance(request, Request) for request in requests
        ):
            raise InputError(f"requests is {shown(requests)}", "give a list of what prepare made")
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
            rgb = load_rgb(image, fetch_urls=self._fetch_urls)
        if isinstance(located, Located):
            located.to_host()  # refuses what a broken model gave
            return stages.refine_located(rgb, located, chosen, thread_count(self.threads))
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
            threads=thread_count(self.threads),
        )

    def check_classes(self, classes: Classes, settings: Settings | None = None) -> None:
        """Find out, before any image is read, whether this model can be asked for `classes`.

        Raises:
            InputError: a name is empty, or cannot be written in the model's vocabulary; or two are
                the same to the model.
        """
        self.method.encode(clean_names(classes), self._checked(settings, "given"))

    def _stream(
        self,
        pairs: Iterable[Pair | PnpOvssError],
        batch_size: int,
        settings: Settings,
        present: Present,
    ) -> Generator[Segmentation | PnpOvssError, None, None]:
        """Segment images that were taken from the caller, or return the errors they met."""
        return stages.stream(
            self.method,
            pairs,
            settings,
            pair=given,
            then=lambda _pair, _request, result: result,
            present=present,
            batch_size=batch_size,
            threads=self.threads,
            fetch_urls=self._fetch_urls,
        )

    def _checked(self, settings: Settings | None, present: str) -> Settings:
        """The settings in force, which can be used."""
        if not isinstance(present, str) or present not in get_args(Present):
            raise InputError(f"present is {shown(present)}", 'it must be "given" or "match"')
        chosen = self.settings if settings is None else settings
        if not isinstance(chosen, Settings):
            raise InputError(
                f"settings is {shown(chosen)}", "give a Settings, such as Settings(crf=None)"
            )
        return chosen


def _raising(results: Generator[Result | PnpOvssError, None, None]) -> Iterator[Result]:
    with closing(results):
        yield from map(given, results)
