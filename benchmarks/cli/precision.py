"""Runs `precision`, which measures what low precision costs in exactness."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import click

from ..harness.records import machine, recorded
from .options import output_option
from .results import command_line

MEASURED = {  # low precisions of each engine
    "eager": ["fp16", "bf16", "autocast fp16", "autocast bf16"],
    "engine": ["fp16", "bf16"],
    "openvino": ["bf16", "int8"],
}
PRECISIONS = list(dict.fromkeys(name for names in MEASURED.values() for name in names))


@click.command("precision")
@click.option("--scenes", default=200, show_default=True, help="Number of sticker scenes.")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    type=click.Choice(list(MEASURED)),
    help="Engine to measure; repeatable. By default all. Recorded rows of the others remain.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    help="Precision to measure; repeatable. By default all that the engine has. Recorded rows of"
    " the others remain.",
)
@output_option("precision")
def command(
    scenes: int, engines: tuple[str, ...], precisions: tuple[str, ...], output: Path
) -> None:
    """Measure how far low precision is from float32, in eager PyTorch and in the engine."""
    from ..measures import precision

    requested = set(precisions or PRECISIONS)
    for name in engines:
        if requested.isdisjoint(MEASURED[name]):
            raise click.UsageError(
                f"{name} is not measured in {', '.join(precisions)}: take --precision"
                f" {' or '.join(MEASURED[name])}"
            )
    path = output / "precision.jsonl"
    others = [
        row
        for row in (precision.read(path) if path.exists() else [])
        if row.engine not in (engines or MEASURED)
        or row.precision not in (precisions or PRECISIONS)
    ]
    about = {"machine": machine(), "command": command_line()}
    names = engines or [
        name for name, measurable in MEASURED.items() if not requested.isdisjoint(measurable)
    ]
    measured = precision.measure(names, precisions, scenes, about)
    rows = recorded(chain(others, measured), path)
    table = precision.table(rows)
    path.with_suffix(".md").write_text(table + "\n")
    click.echo(table)
