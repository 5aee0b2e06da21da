"""Runs `soak`, which calls the engine from many threads for minutes and watches what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pnp_ovss.engine.runners import BACKENDS

from ..harness.records import machine
from .options import json_option, output_option, say_with_time
from .results import command_line, write


@click.command("soak")
@click.option(
    "--count",
    default=20_000,
    show_default=True,
    type=click.IntRange(100),
    help="Number of results that are compared with those of a fresh process.",
)
@click.option(
    "--threads",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    help="Number of threads that share the model.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    help="End after so many seconds, with fewer results.",
)
@click.option(
    "--backend",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", *BACKENDS]),
    help="Backend that runs the demo model.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Seed of images, names, settings, ways to call, and of their order.",
)
@json_option
@output_option("soak")
def command(output: Path, json_file: Path | None, **options: Any) -> int:
    """Call the demo model from many threads; compare all results, and watch what grows.

    Exits with 1 where a result is not that of a fresh process, or memory, threads, descriptors or
    files grow.
    """
    from ..measures import soak

    about = {"machine": machine(), "command": command_line()}
    rows = soak.measure(**options, about=about, say=say_with_time())
    (row,) = write(rows, "soak", output, json_file)
    complaints = soak.complaints(row)
    for line in complaints:
        click.echo(f"benchmarks: {line}", err=True)
    return int(bool(complaints))
