"""`kernel-times`: the kernels of a picture, one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..contenders.base import Skipped
from ..contenders.registry import ENGINE_SEGMENTERS
from .options import (
    case_of,
    case_options,
    chosen,
    json_option,
    output_option,
    rounds_option,
    say_with_time,
)
from .results import write


@click.command("kernel-times")
@case_options
@click.option(
    "--contender", "name", required=True, help="A backend and a precision: aotinductor-bf16, say."
)
@rounds_option(5)
@json_option
@output_option("kernel-times")
def command(name: str, rounds: int, json_file: Path | None, output: Path, **options: Any) -> int:
    """Each device kernel's time in the engine, of one picture and of 16 in a batch."""
    from ..measures import kernel_times

    case, say = case_of(options), say_with_time()
    (contender,) = chosen([name], ENGINE_SEGMENTERS)
    rows = case.measured(
        lambda model, about: kernel_times.measure(
            model, case.task, contender, rounds=rounds, about=about, say=say
        ),
        say,
    )
    kept = write(rows, "kernel-times", output, json_file)
    skipped = [row for row in kept if isinstance(row, Skipped)]
    if len(skipped) < len(kept) and not any(one.failed for one in skipped):
        return 0
    why = "; ".join(f"{one.device}: {one.skipped}" for one in skipped)
    click.echo(f"benchmarks: {contender} was not timed: {why}", err=True)
    return 1
