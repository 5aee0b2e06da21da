"""`precision`: what low precision costs in exactness."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import click

from ..harness.records import machine, recorded
from .options import output_option
from .results import command_line

MEASURED = {  # precisions, by engine
    "eager": ["fp16", "bf16", "autocast fp16", "autocast bf16"],
    "engine": ["fp16", "bf16"],
    "openvino": ["bf16", "int8"],
}
PRECISIONS = list(dict.fromkeys(name for own in MEASURED.values() for name in own))


@click.command("precision")
@click.option("--scenes", default=200, show_default=True, help="Sticker scenes, from the first.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(list(MEASURED)),
    help="Repeatable; by default all. Rows of others stay as they were recorded.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="Repeatable; by default all there are of an engine. Rows of others stay likewise.",
)
@output_option("precision")
def command(
    scenes: int, engines: tuple[str, ...], precisions: tuple[str, ...], output: Path
) -> None:
    """How far low precision is from float32: eager PyTorch, and the engine's graphs."""
    from ..measures import precision

    wanted = set(precisions or PRECISIONS)
    for name in engines:
        if wanted.isdisjoint(MEASURED[name]):
            raise click.UsageError(f"{name} is measured in {', '.join(MEASURED[name])} alone")
    path = output / "precision.jsonl"
    others = [
        row
        for row in (precision.read(path) if path.exists() else [])
        if row.engine not in (engines or MEASURED)
        or row.precision not in (precisions or PRECISIONS)
    ]
    about = {"machine": machine(), "command": command_line()}
    names = engines or [name for name, own in MEASURED.items() if not wanted.isdisjoint(own)]
    measured = precision.measure(names, precisions, scenes, about)
    rows = recorded(chain(others, measured), path)
    table = precision.table(rows)
    path.with_suffix(".md").write_text(table + "\n")
    click.echo(table)
