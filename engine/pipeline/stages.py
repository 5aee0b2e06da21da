"""The stages of a segmentation: prepare, locate, refine, save; and the stream that overlaps them.

`prepare` decodes an image and encodes names, on a thread of the CPU; `locate` runs the model on a
batch; `refine` makes labels of class maps, on a thread of the CPU, or on a stream beside the
model's, and `finish` a result of them; `save` writes files, with the image that was decoded
already. Each takes and gives plain records, so that they can run in different processes:
`Located.to_host()` can be pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import PnpOvssError, printable
from ..inputs.images import ImageLike, load_rgb, resize
from ..inputs.text import clean_names
from ..methods.base import Located, Method, Present, Request
from ..processors import processors
from ..refine import crf, refine
from ..result import files
from ..result.segmentation import Segmentation
from ..settings import Settings
from ..tracing import span
from .overlap import overlap

__all__ = ["finish", "locate", "prepare", "refine", "refine_located", "save", "stream"]

Given = TypeVar("Given")
Result = TypeVar("Result")

Pair = tuple[ImageLike, Sequence[str]]


def prepare(
    method: Method,
    image: ImageLike,
    classes: Sequence[str],
    settings: Settings,
    present: Present = "given",
) -> Request:
    """Decode an image and encode class names for a model; bad input ends here.

    Args:
        method: with the model that is to locate them.
        image: a PIL image, a uint8 array [H, W, 3], or a path.
        classes: the names to look for.
        settings: in force for this image.
        present: see `Request`.

    Raises:
        InputError: the image or a name cannot be used.
    """
    with span("encode"):
        names = clean_names(classes)
        query = method.encode(names, settings)
    with span("decode"):
        rgb = load_rgb(image)
    with span("preprocess"):
        pixels = resize(rgb, method.preprocess)
    return Request(rgb, pixels, tuple(names), query, settings, present)


def locate(
    method: Method, requests: Sequence[Request | PnpOvssError]
) -> list[Located | PnpOvssError]:
    """Run the model on a batch.

    Args:
        method: with its model.
        requests: as `prepare` gave them; where it failed, its error.

    Returns:
        Class maps for each request; an error stays where it is.
    """
    good = [one for one in requests if not isinstance(one, PnpOvssError)]
    found = iter(method.locate(good) if good else [])
    return [one if isinstance(one, PnpOvssError) else next(found) for one in requests]


def finish(request: Request, located: Located, threads: int = 1) -> Segmentation:
    """Refine what was located in an image, by the settings of its request.

    Args:
        request: of the image.
        located: as `Method.locate` gave it for the request, or its `to_host()`.
        threads: that the CRF may use on the CPU.

    Raises:
        ExecutionError: a value of the model is not finite.
        InputError, BackendError: as `refine.refine`.
    """
    on_host = located.to_host()  # refuses what a broken model gave
    return Segmentation(
        labels=refine_located(request.image, located, request.settings, threads),
        class_maps=_by_class(on_host, len(request.classes)),
        match=on_host.match,
        scores=on_host.scores,
        classes=request.classes,
        present=tuple(located.present.tolist()),
    )


def refine_located(
    image: Image.Image, located: Located, settings: Settings, threads: int = 1
) -> npt.NDArray[np.uint16]:
    """Labels of an image, uint16 [H, W], from what was located in it, where its arrays are.

    Args:
        image: RGB, W x H.
        located: of the image; that its values are finite is for `Located.to_host` to say.
        settings: see `refine.refine`.
        threads: that the CRF may use on the CPU.

    Raises:
        InputError, BackendError, ExecutionError: as `refine.refine`.
    """
    return refine(
        image,
        located.maps,
        settings,
        class_of=located.class_of,
        device=located.device,
        event=located.event,
        threads=threads,
    )


def save(
    result: Segmentation,
    image: Image.Image,
    folder: Path,
    *,
    name: str,
    settings: Settings,
    model: dict[str, Any],
) -> dict[str, Any]:
    """Write the label image, the overlay and the report of an image into a folder.

    Args:
        result: of the image.
        image: the image as it was decoded, for the overlay.
        folder: made if need be.
        name: of the image, for the report; its stem names the files.
        settings: that were in force, for the report.
        model: what made the result, as `result.files.describe` returns it, for the report.

    Returns:
        The report, and under "files" the paths of what was written.

    Raises:
        OutputError: a file cannot be written. Nothing half-written is left behind.
    """
    with span("write"):
        record = files.report(result, name, settings, model)
        written = files.write(result, image, record, folder, Path(name).stem)
    return {**record, "files": {kind: printable(str(path)) for kind, path in written.items()}}


def stream(
    method: Method,
    pairs: Iterable[Given],
    settings: Settings,
    *,
    pair: Callable[[Given], Pair],
    then: Callable[[Given, Request, Segmentation], Result],
    present: Present = "given",
    batch_size: int = 8,
) -> Generator[Result | PnpOvssError, None, None]:
    """Segment images as they come, in order; the stages overlap.

    While the model runs a batch, worker threads, no more than there are processors, prepare the
    next one, and finish the one before, an image each. No more than these three batches are under
    way, and on a GPU no more than two images at once are refined.

    Args:
        method: with its model.
        pairs: read no faster than results are taken.
        settings: for all images.
        pair: the image and the classes of an item.
        then: is called on a worker with each item, its request with the decoded image, and its
            segmentation: to write files, or to count. What it returns is the result.
        present: see `Request`.
        batch_size: images that go through the model together.

    Returns:
        For each item its result, or the error with which it failed, alone.

    Raises:
        BackendError: the CRF was asked for and is not installed.
    """
    if settings.crf is not None:
        crf.require(settings.crf)
    available = processors()
    workers = min(batch_size, available)
    threads = available // workers

    def prepared(item: Given) -> tuple[Given, Request | PnpOvssError]:
        return item, _attempt(lambda: prepare(method, *pair(item), settings, present))

    def located(
        batch: Sequence[tuple[Given, Request | PnpOvssError]],
    ) -> list[tuple[Given, Request | PnpOvssError, Located | PnpOvssError]]:
        found = locate(method, [request for _, request in batch])
        return [(*one, located) for one, located in zip(batch, found, strict=True)]

    def finished(
        one: tuple[Given, Request | PnpOvssError, Located | PnpOvssError],
    ) -> Result | PnpOvssError:
        item, request, found = one
        if isinstance(request, PnpOvssError):
            return request
        if isinstance(found, PnpOvssError):
            return found
        return _attempt(lambda: then(item, request, finish(request, found, threads)))

    return overlap(pairs, prepared, located, finished, batch_size, workers)


def _by_class(located: Located, classes: int) -> npt.NDArray[np.float32]:
    """Float32 [C, gh, gw]: the map of each class, the largest value of several, zero of none."""
    maps = np.zeros((classes, *located.maps.shape[1:]), np.float32)
    if len(located.maps):
        own, first = np.unique(located.class_of, return_index=True)
        maps[own] = np.maximum.reduceat(located.maps, first, axis=0)
    return maps


def _attempt(function: Callable[[], Result]) -> Result | PnpOvssError:
    """An image that fails must fail alone: its error takes the place of its result."""
    try:
        return function()
    except PnpOvssError as error:
        return error
