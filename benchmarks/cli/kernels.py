"""Runs `kernels`, which times the kernels between and after the graphs."""

from __future__ import annotations

from pathlib import Path

import click

from ..harness.records import machine
from .options import json_option, output_option, rounds_option
from .results import command_line, write


@click.command("kernels")
@click.option("--device", default="cpu", show_default=True, help="Device: cpu or cuda:N.")
@rounds_option(15)
@json_option
@output_option("kernels")
def command(device: str, rounds: int, json_file: Path | None, output: Path) -> None:
    """Time each kernel of the passes and the refinement against PyTorch and SciPy."""
    from ..measures import kernels

    about = {"machine": machine(device), "command": command_line()}
    rows = kernels.measure(device, rounds, about)
    write(rows, "kernels", output, json_file)
