"""Runs `refinement`, which times what lies before and after the model on a CPU."""

from __future__ import annotations

from pathlib import Path

import click

from ..harness.records import machine
from .options import json_option, output_option, rounds_option
from .results import command_line, write


@click.command("refinement")
@rounds_option(5)
@click.option(
    "--scenes", default=100, show_default=True, help="Number of sticker scenes for the quality."
)
@json_option
@output_option("refinement")
def command(rounds: int, scenes: int, json_file: Path | None, output: Path) -> None:
    """Time the resize and the refinement, and tell what refining at a smaller size costs."""
    from ..measures import refinement

    about = {"machine": machine("cpu"), "command": command_line()}
    rows = refinement.measure(rounds, scenes, about, lambda text: click.echo(text, err=True))
    write(rows, "refinement", output, json_file)
