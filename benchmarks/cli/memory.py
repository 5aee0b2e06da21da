"""`memory`: what the engine takes of a GPU's memory, calculated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..harness.records import machine
from .options import json_option, output_option, say_with_time
from .results import command_line, write


@click.command("memory")
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Choice(["blip-tiny", "blip-base", "blip-large"]),
    default=["blip-base", "blip-large"],
    show_default=True,
    help="A shape; weights are random. Repeatable.",
)
@click.option("--image-size", default=336, show_default=True, type=click.IntRange(1))
@click.option(
    "--check",
    "checked",
    multiple=True,
    type=click.Choice(["blip-tiny", "blip-base", "blip-large"]),
    default=["blip-base"],
    show_default=True,
    help="A model whose graphs ONNX Runtime runs on the CPU, to compare. Repeatable.",
)
@json_option
@output_option("memory")
def command(output: Path, json_file: Path | None, **options: Any) -> None:
    """Memory on a GPU by model, precision, batch, and megapixels, calculated on the CPU."""
    from ..measures import memory

    about = {"machine": machine(), "command": command_line()}
    write(memory.measure(**options, about=about, say=say_with_time()), "memory", output, json_file)
