"""`startup`: how long the first picture takes."""

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


@click.command("startup")
@case_options
@click.option("--contender", "names", multiple=True, help="Repeatable; by default all of CPUs.")
@rounds_option(5)
@json_option
@output_option("startup")
def command(
    names: tuple[str, ...], rounds: int, json_file: Path | None, output: Path, **options: Any
) -> None:
    """From the start of a process to the first labels, cold and warm; and its memory."""
    from .. import models, startup
    from ..segmenters import ENGINE

    case = case_of(options)
    models.check_name(case.name)
    say = say_with_time()
    contenders = chosen(names, ENGINE)
    rows = case.measured(
        lambda model, about: startup.measure(
            model, case.task, contenders, rounds=rounds, about=about, say=say
        ),
        say,
    )
    write(rows, "startup", output, json_file, Report(startup.table))
