"""`stages`: where the time of a picture goes."""

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


@click.command("stages")
@case_options
@click.option("--contender", "names", multiple=True, help="Repeatable; by default all.")
@rounds_option(5)
@json_option
@output_option("stages")
def command(
    names: tuple[str, ...], rounds: int, json_file: Path | None, output: Path, **options: Any
) -> None:
    """Decode, image encoder, matching branch, refinement, CRF: seconds of each, one by one."""
    from .. import models, report, stages
    from ..segmenters import SUBJECTS

    case = case_of(options)
    models.check_name(case.name)
    say = say_with_time()
    contenders = chosen(names, SUBJECTS)
    rows = case.measured(
        lambda model, about: stages.measure(
            model, case.task, contenders, rounds=rounds, about=about, say=say
        ),
        say,
    )
    write(rows, "stages", output, json_file, Report(report.stages, report.draw_stages))
