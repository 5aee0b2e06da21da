"""Runs `c-library`, which times libpnp_ovss against the Python engine."""

from __future__ import annotations

from pathlib import Path

import click

from ..harness.records import machine
from .options import json_option, output_option, rounds_option
from .results import command_line, write


@click.command("c-library")
@click.option(
    "--build",
    default="build/capi",
    show_default=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder in which CMake built engine/capi with its examples.",
)
@rounds_option(5)
@json_option
@output_option("c-library")
def command(build: Path, rounds: int, json_file: Path | None, output: Path) -> None:
    """Time libpnp_ovss, the library in C99, against the Python engine on the CPU."""
    from ..measures import c_library

    about = {"machine": machine("cpu"), "command": command_line()}
    rows = c_library.measure(build, rounds, about, lambda text: click.echo(text, err=True))
    write(rows, "c-library", output, json_file)
