"""Runs `crf`, which times the dense CRF against pydensecrf2."""

from __future__ import annotations

from pathlib import Path

import click

from ..harness.records import machine, recorded
from .options import output_option, rounds_option
from .results import show


@click.command("crf")
@rounds_option(9)
@output_option("crf")
def command(rounds: int, output: Path) -> None:
    """Time the dense CRF against pydensecrf2. Needs the extra `crf` too."""
    from ..measures import crf

    rows = recorded(crf.measure(rounds), output / "crf.jsonl")
    show(machine(), ["pydensecrf2"], crf.table(rows), output / "crf.md")
    crf.draw(rows, output / "crf.png")
