"""`precision`: what low precision costs in exactness."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import click

from ..records import machine, recorded
from .options import output_option, show

NAMES = ["eager", "engine", "openvino"]


@click.command("precision")
@click.option("--scenes", default=200, show_default=True, help="Sticker scenes, from the first.")
@click.option(
    "--engine",
    "names",
    multiple=True,
    type=click.Choice(NAMES),
    help="Repeatable; by default all. Rows of others stay as they were recorded.",
)
@output_option("precision")
def command(scenes: int, names: tuple[str, ...], output: Path) -> None:
    """How far low precision is from float32: eager PyTorch, and the engine's graphs."""
    from .. import precision

    path = output / "precision.jsonl"
    before = precision.read(path) if names and path.exists() else []
    others = [row for row in before if row.engine not in names]
    rows = recorded(chain(others, precision.measure(names or NAMES, scenes)), path)
    table = f"{precision.NOTE}\n\n{precision.table(rows)}"
    show(machine(), ["torch", "onnxruntime", "openvino"], table, output / "precision.md")
