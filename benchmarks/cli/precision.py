"""`precision`: what low precision costs in exactness."""

from __future__ import annotations

from pathlib import Path

import click

from ..records import machine, recorded
from .options import output_option, show


@click.command("precision")
@click.option("--scenes", default=200, show_default=True, help="Sticker scenes, from the first.")
@output_option("precision")
def command(scenes: int, output: Path) -> None:
    """How far low precision is from float32: eager PyTorch, and the engine's graphs."""
    from .. import precision

    rows = recorded(precision.measure(scenes), output / "precision.jsonl")
    table = f"{precision.NOTE}\n\n{precision.table(rows)}"
    show(machine(), ["torch", "onnxruntime", "openvino"], table, output / "precision.md")
