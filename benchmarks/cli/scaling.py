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
    from ..segmenters import ENGINE, LEAN

    case = case_of(options)
    models.check_name(case.name)
    say = say_with_time()
    contenders = chosen(names, [LEAN, *ENGINE])
    rows = case.measured(
        lambda model, about: scaling.measure(
            model, case.task, contenders, rounds=rounds, about=about, say=say
        ),
        say,
    )
    write(rows, "scaling", output, json_file, Report(scaling.table, scaling.draw))
