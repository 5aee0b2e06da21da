"""Makes the jobs of a soak: distinct calls of an engine, each with what must come of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pnp_ovss.engine import ExecutionError, PnpOvssError, Segmentation, Segmenter, Settings
from pnp_ovss.engine.pipeline.stages import finish

from .soak_inputs import FORMS, KNOWN, REFUSED, paths, settings

Run = Callable[[Segmenter, int], list[str]]

_QUICK = Settings(passes=1, crf=None)


@dataclass(frozen=True)
class Job:
    """One call of the engine, which may give several results.

    Attributes:
        name: What is called, and a number.
        fails: Whether each of its results is an error, in order.
        run: Function that makes the call with a segmenter and as many threads as it is given, and
            tells the results.
    """

    name: str
    fails: tuple[bool, ...]
    run: Run

    def told(self, segmenter: Segmenter, threads: int) -> list[str]:
        """Run the job and tell what came of it, whatever that is.

        Args:
            segmenter: Segmenter to call.
            threads: Threads that a job may start which is one of several.

        Returns:
            A line for each result: a digest of labels, or class and cause of an error.
        """
        try:
            return self.run(segmenter, threads)
        except Exception as error:
            return [tell(error)]

    def as_wanted(self, told: Sequence[str]) -> bool:
        """Tell whether good input gave labels, and bad input errors that blame the input."""
        return tuple(line.startswith("refused") for line in told) == self.fails and not any(
            line.startswith("broken") for line in told
        )


def tell(result: Any) -> str:
    """Tell a result in a line: a digest of labels, or class and cause of an error."""
    if isinstance(result, Segmentation):
        return tell(result.labels)
    if isinstance(result, np.ndarray):
        digest = hashlib.sha256(result.tobytes()).hexdigest()[:16]
        return f"{result.dtype} {list(result.shape)} {digest}"
    if isinstance(result, PnpOvssError) and not isinstance(result, ExecutionError):
        return f"refused, {type(result).__name__}: {result.cause}"
    return f"broken, {type(result).__name__}: {result}"


def jobs(folder: Path, seed: int) -> list[Job]:
    """Make all distinct jobs, the same for the same seed.

    Args:
        folder: Folder with the files of `soak_inputs.write_images`.
        seed: Seed of what is drawn: images, names, settings and ways to call.
    """
    rng = np.random.default_rng(seed)
    counts = {
        _single: 70,
        _used: 10,
        _refined: 30,
        _staged: 6,
        _batch: 6,
        _stream: 10,
        _abandoned: 5,
        _shared: 6,
    }
    made = [
        Job(f"{make.__name__.strip('_')} {number}", *make(folder, rng))
        for make, count in counts.items()
        for number in range(count)
    ]
    refused = (Job(f"refused: {name}", (True,), _refused(name, folder)) for name in REFUSED)
    return [*made, *refused]


def _image(folder: Path, rng: np.random.Generator) -> Callable[[], Any]:
    """Draw an image, and a way to hand it over; each call makes it anew."""
    files = paths(folder)
    path, form = files[rng.integers(len(files))], str(rng.choice(list(FORMS)))
    return lambda: FORMS[form](path)


def _classes(rng: np.random.Generator) -> list[Any]:
    """Draw 1 to 5 classes, a third of the time with synonyms."""
    names = rng.choice(KNOWN, rng.integers(1, 6), replace=False).tolist()
    return [names[:2], *names[2:]] if len(names) > 1 and rng.random() < 1 / 3 else names


def _options(rng: np.random.Generator) -> dict[str, Any]:
    return {"settings": settings(rng), "present": str(rng.choice(["given", "match"]))}


def _single(folder: Path, rng: np.random.Generator) -> tuple[tuple[bool, ...], Run]:
    image, classes, options = _image(folder, rng), _classes(rng), _options(rng)
    return (False,), lambda segmenter, _: [tell(segmenter.segment(image(), classes, **options))]


def _used(folder: Path, rng: np.random.Generator) -> tuple[tuple[bool, ...], Run]:
    """Make masks, drawings and annotations of a result."""
    image, classes, options = _image(folder, rng), _classes(rng), _options(rng)

    def run(segmenter: Segmenter, _: int) -> list[str]:
        result = segmenter.segment(image(), classes, **options)
        arrays = [
            result.labels,
            result.mask(result.classes[-1]),
            np.asarray(result.overlay(image())),
            np.asarray(result.label_image()),
            np.frombuffer(msgspec.json.encode([one["area"] for one in result.to_coco()]), np.uint8),
        ]
        return [", ".join(map(tell, arrays))]

    return (False,), run


def _refined(folder: Path, rng: np.random.Generator) -> tuple[tuple[bool, ...], Run]:
    """Refine class maps without a model."""
    image, chosen = _image(folder, rng), settings(rng)
    maps = rng.random((rng.integers(1, 6), 16, 16), np.float32)
    return (False,), lambda segmenter, _: [tell(segmenter.refine(image(), maps, chosen))]


def _staged(folder: Path, rng: np.random.Generator) -> tuple[tuple[bool, ...], Run]:
    """Prepare two requests, locate them together, finish one and refine the other twice."""
    images, options = [_image(folder, rng), _image(folder, rng)], _options(rng)
    classes, other = [_classes(rng), _classes(rng)], settings(rng)

    def run(segmenter: Segmenter, threads: int) -> list[str]:
        requests = [
            segmenter.prepare(image(), names, **options)
            for image, names in zip(images, classes, strict=True)
        ]
        located = segmenter.locate(requests)
        first = finish(requests[0], located[0])
        return [
            tell(first),
            tell(segmenter.refine(images[0](), first, other)),
            tell(segmenter.refine(images[1](), located[1], options["settings"])),
        ]

    return (False,) * 3, run


def _batch(folder: Path, rng: np.random.Generator) -> tuple[tuple[bool, ...], Run]:
    count, options = int(rng.integers(1, 5)), _options(rng)
    made = [(_image(folder, rng), _classes(rng)) for _ in range(count)]

    def run(segmenter: Segmenter, _: int) -> list[str]:
        pairs = [(image(), classes) for image, classes in made]
        return list(map(tell, segmenter.segment_batch(pairs, **options)))

    return (False,) * count, run


def _stream(folder: Path, rng: np.random.Generator) -> tuple[tuple[bool, ...], Run]:
    """Stream good and bad pairs; errors come in place of results."""
    good, options = rng.random(rng.integers(2, 7)) < 0.6, _options(rng)
    size = int(rng.integers(1, 4))
    bad: list[Any] = [(folder / "cut.png", ["cat"]), (folder / "00.png", ["dragon"]), 5]
    made = [
        (_image(folder, rng), _classes(rng)) if one else bad[rng.integers(len(bad))] for one in good
    ]

    def pairs() -> Iterator[Any]:
        for one, is_good in zip(made, good, strict=True):
            yield (one[0](), one[1]) if is_good else one

    def run(segmenter: Segmenter, _: int) -> list[str]:
        results = segmenter.stream(pairs(), batch_size=size, errors="return", **options)
        return list(map(tell, results))

    return tuple((~good).tolist()), run


def _abandoned(folder: Path, rng: np.random.Generator) -> tuple[tuple[bool, ...], Run]:
    """Take the first result of a stream, and leave the others."""
    images, classes = [_image(folder, rng) for _ in range(4)], _classes(rng)

    def run(segmenter: Segmenter, _: int) -> list[str]:
        pairs = ((image(), classes) for image in images)
        return [tell(next(segmenter.stream(pairs, batch_size=1, settings=_QUICK)))]

    return (False,), run


def _shared(folder: Path, rng: np.random.Generator) -> tuple[tuple[bool, ...], Run]:
    """Give one opened image, whose pixels are still in its file, to two threads at once."""
    files, classes = paths(folder), _classes(rng)
    path = files[rng.integers(len(files))]

    def run(segmenter: Segmenter, threads: int) -> list[str]:
        image = FORMS["opened"](path)
        with ThreadPoolExecutor(min(2, threads)) as pool:
            calls = [
                pool.submit(segmenter.segment, image, classes, settings=_QUICK) for _ in range(2)
            ]
            return [tell(call.result()) for call in calls]

    return (False,) * 2, run


def _refused(name: str, folder: Path) -> Run:
    def run(segmenter: Segmenter, _: int) -> list[str]:
        return [f"not refused: {REFUSED[name](segmenter, folder)!r}"]

    return run
