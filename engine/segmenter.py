"""Name the things in a picture, get a mask of each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Literal, ParamSpec, TypeVar, get_args, overload

import numpy as np

from .device import Array, Device
from .errors import InputError, ModelError, PnpOvssError
from .inputs.images import ImageLike, load_rgb, squared
from .inputs.text import clean_names
from .methods.base import Located, Present, Request
from .methods.pnp_ovss.graphs import Network, finite, match_probability
from .methods.pnp_ovss.locate import search
from .model.folder import DEMO, ModelFolder, open_model
from .pipeline import overlap
from .precision import PrecisionChoice
from .processors import processors
from .refine import crf
from .refine.channels import to_channels
from .result.segmentation import Segmentation
from .settings import Settings

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Pair = tuple[ImageLike, Sequence[str]]


class Segmenter:
    """A loaded model. Make one with `Segmenter.load`; it may be used as a context manager.

    Threads may share one: it holds no state of its own between calls.

    Attributes:
        model: the model folder and its manifest.
        settings: what is used where the caller gives no settings: the manifest's recommendation.
        device: where the model runs, "cpu" or "cuda:N".
    """

    def __init__(self, model: ModelFolder, network: Network) -> None:
        self.model = model
        self.settings = model.manifest.settings
        self.device = network.device.name
        self._network = network

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
            model: a folder that `pnp-ovss export` wrote, a hub id exported earlier, or "demo".
            backend: "auto", or a key of `runners.BACKENDS`.
            device: "auto", "cpu", "cuda" or "cuda:N". A device that was asked for and cannot be had
                is an error, never a fall-back.
            precision: "auto", "fp32", "fp16", "bf16" or "int8"; "auto" is the most exact that there
                is. On the CPU those below fp32 are OpenVINO's; see `runners.openvino`.
            verify: compare the files' sha256 with the manifest.

        Raises:
            ModelError: the folder is missing, damaged, of a newer version, or made for tuning.
            BackendError: the backend, the device or the precision cannot be had.
        """
        found = open_model(model, verify=verify)
        if found.manifest.all_heads:
            raise ModelError(
                f"'{found.path}' was exported with --all-heads, for tuning",
                "export it again with --layer and --head to segment with it",
            )
        network = Network.open(found, backend=backend, device=device, precision=precision)
        return cls(found, network)

    def close(self) -> None:
        """Free the model."""
        self._network.close()

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
                whose own caption the ITM head scores at or below `settings.match_threshold`. Either
                way every class is scored, which costs little beside the passes for a few classes.

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

        While the model runs a batch, worker threads, no more than there are processors, decode the
        next one, and refine the one before, a picture each. No more than these three batches are
        under way, and on a GPU no more than two pictures at once are refined.

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
        if errors not in ("raise", "return"):
            raise InputError(f"errors is {errors!r}", 'it must be "raise" or "return"')
        if not isinstance(batch_size, int) or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r}", "it must be a whole number from 1")
        available = processors()
        workers = min(batch_size, available)
        threads = available // workers
        results = overlap.overlap(
            pairs,
            lambda pair: _attempt(self._query, *pair, chosen),
            lambda batch: self._find(batch, chosen, present),
            lambda found: _attempt(self._finish, found, chosen, threads),
            batch_size,
            workers,
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
        if present not in get_args(Present):
            raise InputError(f"present is {present!r}", 'it must be "given" or "match"')
        chosen = self.settings if settings is None else settings
        if not isinstance(chosen, Settings):
            raise InputError(
                f"settings is {chosen!r}", "give a Settings, such as Settings(crf=None)"
            )
        if chosen.crf is not None:
            crf.require(chosen.crf)
        return chosen

    def _query(self, image: ImageLike, classes: Sequence[str], settings: Settings) -> Request:
        names = clean_names(classes)
        write = self._network.captioner.write
        alone = [write([name], join=settings.join_words)[0] for name in names]
        picture = load_rgb(image)
        return Request(picture, squared(picture, self.model.manifest.image_size), names, alone)

    def _find(
        self, queries: Sequence[Request | PnpOvssError], settings: Settings, present: Present
    ) -> list[Located | PnpOvssError]:
        """The search in a batch; errors stay where they are."""
        good = [query for query in queries if isinstance(query, Request)]
        found = iter(search(self._network, good, settings, present))
        return [next(found) if isinstance(query, Request) else query for query in queries]

    def _finish(
        self, found: Located | PnpOvssError, settings: Settings, threads: int
    ) -> Segmentation:
        """Refinement and CRF of one picture."""
        if isinstance(found, PnpOvssError):
            raise found
        device, classes = self._network.device, found.query.classes
        grid = self.model.manifest.grid
        maps = np.zeros((len(classes), grid, grid), np.float32)
        match = np.zeros(0, np.float32)
        place = crf.where(settings.crf, device)
        channels = labels = None
        with device.side_stream(found.mark):
            scores = match_probability(device.to_host(found.alone_logits))
            if found.class_maps is not None:
                maps[found.present] = finite("salience", device.to_host(found.class_maps))
                match = match_probability(device.to_host(found.logits)).mean(axis=1)
                height, width = found.query.image.height, found.query.image.width
                channels = to_channels(found.class_maps, height, width, settings, device)
            if place is device:
                labels = _labels(found, channels, settings, place, threads)
            elif channels is not None:
                channels = device.to_host(channels)
        if labels is None:
            labels = _labels(found, channels, settings, place, threads)
        return Segmentation(
            labels=labels,
            class_maps=maps,
            match=match,
            scores=scores,
            classes=tuple(classes),
            present=tuple(index in found.present for index in range(len(classes))),
        )


def _labels(
    found: Located, channels: Array | None, settings: Settings, place: Device, threads: int
) -> np.ndarray:
    """Uint16 [H, W], from channels at the place of the CRF; None where nothing was looked for."""
    image = found.query.image
    if channels is None:
        return np.zeros((image.height, image.width), np.uint16)
    numbers = np.array(found.present, np.uint16) + np.uint16(1)
    if len(channels) > len(numbers):
        numbers = np.concatenate([np.zeros(1, np.uint16), numbers])
    if settings.crf is not None:
        channels = crf.marginals(image, channels, settings.crf, threads, place)
    return place.to_host(place.kernels.choose_labels(channels, numbers))


def _attempt(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result | PnpOvssError:
    """A picture that fails must fail alone: its error takes the place of its result."""
    try:
        return function(*args, **kwargs)
    except PnpOvssError as error:
        return error


def _raising(results: Generator[Result | PnpOvssError, None, None]) -> Iterator[Result]:
    with closing(results):
        for result in results:
            if isinstance(result, PnpOvssError):
                raise result
            yield result
