"""Pictures to files: what `segment` and `demo` share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .terminal import complain, printable

if TYPE_CHECKING:
    from ..segmenter import Segmenter
    from ..settings import Settings


def run(
    segmenter: Segmenter,
    jobs: Sequence[tuple[Path, Sequence[str]]],
    output: Path,
    settings: Settings,
    *,
    present: Any = "given",
    batch_size: int = 4,
) -> tuple[list[dict[str, Any]], int]:
    """Segment pictures and write their files; a picture that fails fails alone.

    Returns:
        The reports of the pictures that were done, and how many failed.

    Raises:
        OutputError: the folder cannot be written to.
    """
    from ..errors import OutputError, PnpOvssError
    from ..images import load_rgb
    from ..output import check_folder, report, save

    results = segmenter.stream(
        jobs, batch_size=batch_size, settings=settings, present=present, errors="return"
    )
    check_folder(output)
    reports: list[dict[str, Any]] = []
    failed = 0
    for (path, _), result in zip(jobs, _progress(results, len(jobs)), strict=True):
        if isinstance(result, PnpOvssError):
            complain(result.cause, result.cure)
            failed += 1
            continue
        record = report(result, printable(str(path)), settings, segmenter.model)
        try:
            files = save(result, load_rgb(path), record, output, path.stem)
        except OutputError as error:
            complain(f"{path}: {error.cause}", error.cure)
            failed += 1
            continue
        written = {kind: printable(str(file)) for kind, file in files.items()}
        reports.append({**record, "files": written})
    return reports, failed


def warn_if_untrained(segmenter: Segmenter) -> None:
    """Say so where masks mean nothing."""
    if not segmenter.model.manifest.trained:
        complain("note: this model has random weights, so its masks mean nothing")


def _progress(results: Iterator[Any], length: int) -> Iterator[Any]:
    """A bar on standard error; nothing where that is no terminal."""
    with click.progressbar(
        results, length=length, label="segmenting", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        yield from bar
