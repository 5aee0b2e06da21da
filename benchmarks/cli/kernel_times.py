"""Runs `kernel-times`, which times the device kernels of an image one by one."""

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
    "--contender", "name", required=True, help="Backend and precision, such as aotinductor-bf16."
)
@rounds_option(5)
@json_option
@output_option("kernel-times")
def command(name: str, rounds: int, json_file: Path | None, output: Path, **options: Any) -> int:
    """Time each device kernel of the engine, for one image and for 16 in a batch."""
    from ..measures import kernel_times

    case, say = case_of(options), say_with_time()
    (contender,) = chosen([name], ENGINE_SEGMENTERS)
    rows = case.measured(
        lambda model, about: kernel_times.measure(
            model, case.task, contender, rounds=rounds, about=about, say=say
        ),
        say,
    )
    written = write(rows, "kernel-times", output, json_file)
    skipped = [row for row in written if isinstance(row, Skipped)]
    if len(skipped) < len(written) and not any(row.failed for row in skipped):
        return 0
    reasons = "; ".join(f"{row.device}: {row.skipped}" for row in skipped)
    click.echo(f"benchmarks: {contender} was not timed: {reasons}", err=True)
    return 1
