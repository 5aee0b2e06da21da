"""Pictures to files: what `segment` and `demo` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import PnpOvssError
from ..inputs.images import load_rgb
from ..methods.base import Present
from ..result.files import check_folder, report, save
from ..segmenter import Segmenter
from ..settings import Settings
from .terminal import bar, complain, printable


def run(
    segmenter: Segmenter,
    jobs: Sequence[tuple[Path, Sequence[str]]],
    folder: Path,
    settings: Settings,
    *,
    present: Present = "given",
    batch_size: int = 4,
) -> tuple[list[dict[str, Any]], int]:
    """Segment pictures and write their files; a picture that fails fails alone.

    Returns:
        The reports of the pictures that were done; and the exit code, that of the first error.

    Raises:
        OutputError: the folder cannot be written to.
    """
    results = segmenter.stream(
        jobs, batch_size=batch_size, settings=settings, present=present, errors="return"
    )
    check_folder(folder)
    reports: list[dict[str, Any]] = []
    exit_code = 0
    for (path, _), result in zip(jobs, bar(results, len(jobs), "segmenting"), strict=True):
        try:
            if isinstance(result, PnpOvssError):
                raise result
            record = report(result, printable(str(path)), settings, segmenter)
            files = save(result, load_rgb(path), record, folder, path.stem)
        except PnpOvssError as error:
            complain(error.cause, error.cure)
            exit_code = exit_code or error.exit_code
            continue
        written = {kind: printable(str(file)) for kind, file in files.items()}
        reports.append({**record, "files": written})
    return reports, exit_code


def warn_if_untrained(segmenter: Segmenter) -> None:
    """Say so where masks mean nothing."""
    if not segmenter.model.manifest.trained:
        complain("note: this model has random weights, so its masks mean nothing")
