"""Images to files: what `segment` and `demo` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import PnpOvssError
from ..inputs.names import CleanClass
from ..methods.base import Present, Request
from ..pipeline.stages import save, stream
from ..result.files import check_folder, describe
from ..result.segmentation import Segmentation
from ..segmenter import Segmenter
from ..settings import Settings
from .terminal import bar, complain

Job = tuple[Path, Sequence[CleanClass]]


def run(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    folder: Path,
    settings: Settings,
    *,
    present: Present = "given",
    batch_size: int = 4,
    threads: int | None = None,
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
            name=str(job[0]),
            settings=settings,
            model=describe(segmenter.model.manifest, segmenter.placement),
        )

    results = stream(
        segmenter.method,
        jobs,
        settings,
        pair=lambda job: job,
        then=write,
        present=present,
        batch_size=batch_size,
        threads=threads,
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


def warn_if_untrained(segmenter: Segmenter) -> None:
    """Say so where masks mean nothing."""
    if not segmenter.model.manifest.trained:
        complain("note: this model has random weights, so its masks mean nothing")
