"""Run the stages of a segmentation (prepare, locate, refine, save), one by one or overlapped.

- `prepare` decodes an image and encodes class names, on a thread of the CPU.
- `locate` runs the model on a batch of requests.
- `finish` refines class maps into labels, on a thread of the CPU or a side stream of the GPU.
- `save` writes files, with the image that was decoded before.

Each stage takes and gives plain records that can be pickled. So one process can locate, and
another, which needs no model and no backend, can refine and write:

    from pnp_ovss.engine import Segmenter
    from pnp_ovss.engine.pipeline.stages import finish, save
    from pnp_ovss.engine.result.files import describe

    segmenter = Segmenter.load()
    requests = [segmenter.prepare(path, names) for path, names in images]
    pairs = [
        (request, located.to_host())
        for request, located in zip(requests, segmenter.locate(requests))
    ]
    model = describe(segmenter.model.manifest, segmenter.placement)

    # in another process, with `pairs` and `model`
    for (path, _), (request, located) in zip(images, pairs):
        result = finish(request, located)
        settings = request.settings
        save(result, request.image, folder, name=path, settings=settings, model=model)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import PnpOvssError, attempt, of_one_image, printable, without_traceback
from ..inputs.images import ImageLike, load_rgb, resize
from ..inputs.names import Classes, clean_names, synonyms, titles
from ..methods.base import Located, Method, Present, Request
from ..paths import expanded
from ..processors import thread_count
from ..refine import crf, refine
from ..result import files
from ..result.segmentation import Segmentation
from ..settings import Settings
from ..tracing import span
from .overlap import overlap
from .pairs import Pair

__all__ = ["finish", "locate", "prepare", "refine", "refine_located", "save", "stream"]

Given = TypeVar("Given")
Result = TypeVar("Result")


def prepare(
    method: Method,
    image: ImageLike,
    classes: Classes,
    settings: Settings,
    present: Present = "given",
    *,
    fetch_urls: bool = False,
) -> Request:
    """Decode an image and encode class names for a model; bad input ends here.

    Args:
        method: method with its model.
        image: image, or what one is read from; see `inputs.images.load_rgb`.
        classes: names to look for; in place of a name, a list of synonyms.
        settings: settings in force for this image.
        present: which classes are looked for; see `Request`.
        fetch_urls: whether an image may be a URL.

    Raises:
        InputError: the image or a name cannot be used.
    """
    with span("encode"):
        names = clean_names(classes)
        query = method.encode(names, settings)
    with span("decode"):
        rgb = load_rgb(image, fetch_urls=fetch_urls)
    with span("preprocess"):
        pixels = resize(rgb, method.preprocess)
    return Request(rgb, pixels, titles(names), query, settings, present, synonyms(names))


def locate(
    method: Method, requests: Sequence[Request | PnpOvssError]
) -> list[Located | PnpOvssError]:
    """Run the model on a batch; where that fails, on each request alone, so that one fails alone.

    Args:
        method: method with its model.
        requests: what `prepare` returned for each image, or the error that it raised.

    Returns:
        Class maps for each request, or the error that it met; an error stays in its place.
    """
    good = [one for one in requests if not isinstance(one, PnpOvssError)]
    located = iter(_locate(method, good) if good else [])
    return [one if isinstance(one, PnpOvssError) else next(located) for one in requests]


def _locate(method: Method, requests: Sequence[Request]) -> Sequence[Located | PnpOvssError]:
    try:
        return method.locate(requests)
    except Exception as error:
        # what a signal handler raised goes on from here
        failed = without_traceback(of_one_image(error))
        if len(requests) == 1:
            return [failed]
    return [one for request in requests for one in _locate(method, [request])]


def finish(request: Request, located: Located, threads: int = 1) -> Segmentation:
    """Refine the class maps of an image, by the settings of its request.

    Args:
        request: request of the image.
        located: what `Method.locate` returned for the request, or its `to_host()`.
        threads: number of threads that the CRF may use on the CPU.

    Raises:
        ExecutionError: a value of the model is not finite.
        InputError, BackendError: see `refine.refine`.
    """
    on_host = located.to_host()  # refuses what a broken model gave
    return Segmentation(
        labels=refine_located(request.image, located, request.settings, threads),
        class_maps=_by_class(on_host, len(request.classes)),
        match=on_host.match,
        scores=on_host.scores,
        classes=request.classes,
        present=tuple(located.present.tolist()),
        synonyms=request.synonyms,
    )


def refine_located(
    image: Image.Image, located: Located, settings: Settings, threads: int = 1
) -> npt.NDArray[np.uint16]:
    """Make labels, uint16 [H, W], from the class maps of an image, on the device of the maps.

    Args:
        image: the image in RGB, W x H.
        located: class maps of the image. `Located.to_host` checks that they are finite.
        settings: threshold, blur, background and CRF; see `refine.refine`.
        threads: number of threads that the CRF may use on the CPU.

    Raises:
        InputError, BackendError, ExecutionError: see `refine.refine`.
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


def segment(
    method: Method,
    image: ImageLike,
    classes: Classes,
    settings: Settings,
    present: Present,
    threads: int,
    fetch_urls: bool,
) -> Segmentation:
    """Run all stages for one image, on this thread; see `prepare` and `finish`.

    Raises:
        PnpOvssError: the image cannot be segmented.
        Exception: something else went wrong.
    """
    if settings.crf is not None:
        crf.require(settings.crf)
    request = prepare(method, image, classes, settings, present, fetch_urls=fetch_urls)
    return finish(request, method.locate([request])[0], threads)


def save(
    result: Segmentation,
    image: Image.Image,
    folder: str | Path,
    *,
    name: str,
    settings: Settings,
    model: dict[str, Any],
    stem: str | None = None,
) -> dict[str, Any]:
    """Write the label image, the overlay and the report of an image into a folder.

    Args:
        result: result of the image.
        image: the image as it was decoded, for the overlay.
        folder: folder for the files; it is made if need be.
        name: name of the image, for the report.
        settings: settings that were in force, for the report.
        model: what made the result, as `result.files.describe` returns it, for the report.
        stem: stem of the files, which may begin with sub-folders; by default that of `name`.

    Returns:
        The report, and the paths of the files under its key "files".

    Raises:
        OutputError: a file cannot be written. Nothing half-written is left behind.
    """
    with span("write"):
        record = files.report(result, name, settings, model)
        place = expanded(folder) / (Path(name).stem if stem is None else stem)
        written = files.write(result, image, record, place.parent, place.name)
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
    threads: int | None = None,
    fetch_urls: bool = False,
) -> Generator[Result | PnpOvssError, None, None]:
    """Segment images as they come, in order; the stages overlap.

    While the model runs a batch, worker threads, no more than there are processors, prepare the
    next one, and finish the one before, an image each. No more than these three batches are under
    way, and on a GPU no more than two images at once are refined.

    Args:
        method: method with its model.
        pairs: items, each with an image and its classes; read no faster than results are taken.
        settings: settings for all images.
        pair: function that gives the image and the classes of an item.
        then: function that is called on a worker with each item, its request and its segmentation,
            to write files or to count. What it returns is the result of the item.
        present: which classes are looked for; see `Request`.
        batch_size: number of images that go through the model together.
        threads: number of threads for preparing and finishing; None for one each processor.
        fetch_urls: whether an image may be a URL.

    Returns:
        The result of each item, in order, or the error of an item that failed, whatever it is.

    Raises:
        BackendError: the CRF was asked for and is not installed.
    """
    if settings.crf is not None:
        crf.require(settings.crf)
    available = thread_count(threads)
    workers = min(batch_size, available)
    of_each = available // workers

    def prepared(item: Given) -> tuple[Given, Request | PnpOvssError]:
        return item, attempt(
            lambda: prepare(method, *pair(item), settings, present, fetch_urls=fetch_urls)
        )

    def located(
        batch: Sequence[tuple[Given, Request | PnpOvssError]],
    ) -> list[tuple[Given, Request | PnpOvssError, Located | PnpOvssError]]:
        results = locate(method, [request for _, request in batch])
        return [(*one, result) for one, result in zip(batch, results, strict=True)]

    def finished(
        one: tuple[Given, Request | PnpOvssError, Located | PnpOvssError],
    ) -> Result | PnpOvssError:
        item, request, result = one
        if isinstance(request, PnpOvssError):
            return request
        if isinstance(result, PnpOvssError):
            return result
        return attempt(lambda: then(item, request, finish(request, result, of_each)))

    return overlap(pairs, prepared, located, finished, batch_size, workers)


def _by_class(located: Located, classes: int) -> npt.NDArray[np.float32]:
    """Make one map for each class, float32 [C, gh, gw]: the maximum of several, zeros of none."""
    maps = np.zeros((classes, *located.maps.shape[1:]), np.float32)
    if len(located.maps):
        classes_with_maps, first = np.unique(located.class_of, return_index=True)
        maps[classes_with_maps] = np.maximum.reduceat(located.maps, first, axis=0)
    return maps
