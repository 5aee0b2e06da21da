"""Images to files: what `segment` and `demo` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PnpOvssError
from ..inputs.images import ImageLike
from ..inputs.names import CleanClass
from ..methods.base import Present, Request
from ..pipeline.pairs import Pair, given
from ..pipeline.stages import save, stream
from ..result.files import check_folder, describe
from ..result.segmentation import Segmentation
from ..segmenter import Segmenter
from ..settings import Settings
from .terminal import bar, complain


class Job(NamedTuple):
    """One image to segment.

    Attributes:
        image: the image, or the error that stands for it.
        classes: names to look for.
        name: name of the image, for the report.
        stem: stem of the files of its results, with their sub-folder.
    """

    image: ImageLike | PnpOvssError
    classes: Sequence[CleanClass]
    name: str
    stem: str


def run(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    folder: Path,
    settings: Settings,
    *,
    present: Present = "given",
    batch_size: int = 4,
) -> tuple[list[dict[str, Any]], int]:
    """Segment images and write their files; an image that fails fails alone.

    Files are written by the threads that refine, so that the model need not wait for them.

    Returns:
        The reports of the images that were done; and the exit code, that of the first error.

    Raises:
        OutputError: the folder cannot be written to.
    """

    def write(job: Job, request: Request, result: Segmentation) -> dict[str, Any]:
        return save(
            result,
            request.image,
            folder,
            name=job.name,
            stem=job.stem,
            settings=settings,
            model=describe(segmenter.model.manifest, segmenter.placement),
        )

    results = stream(
        segmenter.method,
        jobs,
        settings,
        pair=_pair,
        then=write,
        present=present,
        batch_size=batch_size,
        threads=segmenter.threads,
        fetch_urls=True,
    )
    check_folder(folder)
    reports: list[dict[str, Any]] = []
    exit_code = 0
    for result in bar(results, len(jobs), "segmenting"):
        if isinstance(result, PnpOvssError):
            complain(result.cause, result.cure)
            exit_code = exit_code or result.exit_code
        else:
            reports.append(result)
    return reports, exit_code


def _pair(job: Job) -> Pair:
    return given(job.image), job.classes


def warn_if_untrained(segmenter: Segmenter) -> None:
    """Say so where masks mean nothing."""
    if not segmenter.model.manifest.trained:
        complain("note: this model has random weights, so its masks mean nothing")
