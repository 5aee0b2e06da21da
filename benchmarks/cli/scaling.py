"""`scaling`: how the time grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..records import Report
from .options import (
    case_of,
    case_options,
    chosen,
    json_option,
    output_option,
    rounds_option,
    say_with_time,
    write,
)


@click.command("scaling")
@case_options
@click.option(
    "--contender",
    "names",
    multiple=True,
    help="Repeatable; by default `lean` and every backend in every precision.",
)
@rounds_option(3)
@json_option
@output_option("scaling")
def command(
    names: tuple[str, ...], rounds: int, json_file: Path | None, output: Path, **options: Any
) -> None:
    """Seconds a picture by the number of classes, of passes, and of pictures in a batch."""
    from .. import models, scaling
    from ..segmenters import ENGINE, LEAN, Task

    case = case_of(options)
    models.check_name(case.name)
    say = say_with_time()
    with case.folder() as folder:
        model = models.prepare(
            case.name, image_size=case.image_size, device=case.device, folder=folder, say=say
        )
        rows = scaling.measure(
            model,
            Task(case.picture, case.classes, case.passes),
            chosen(names, [LEAN, *ENGINE]),
            rounds=rounds,
            about=case.about(models.identity(case.name, model)),
            say=say,
        )
        write(rows, "scaling", output, json_file, Report(scaling.table, scaling.draw))
