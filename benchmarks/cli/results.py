"""Rows of a command: recorded, made into tables and plots, and shown."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..harness.records import AnyRow, Rows, describe, read, recorded

_PATH_OPTIONS = ("-o", "--output", "--json", "--work")


@dataclass(frozen=True)
class Report:
    """Table and plot of recorded rows.

    Attributes:
        table: the rows as Markdown.
        draw: writes them as a PNG; None where there is nothing to draw.
    """

    table: Callable[[Rows], str]
    draw: Callable[[Rows, Path], None] | None = None

    def render(self, path: Path) -> str:
        """Write `<stem>.md`, and the picture, beside recorded rows; return the text."""
        rows = read(path)
        text = self.table(rows) + "\n"
        path.with_suffix(".md").write_text(text)
        if self.draw:
            self.draw(rows, path.with_suffix(".png"))
        return text


def reports() -> dict[str, Report]:
    """Tables and plots by subcommand; what they are made with is imported for them alone."""
    from ..measures import (
        agreement,
        end_to_end,
        kernel_times,
        kernels,
        memory,
        scaling,
        stages,
        startup,
    )

    return {
        "end-to-end": Report(end_to_end.table, stages.draw),
        "stages": Report(stages.table, stages.draw),
        "kernels": Report(kernels.table),
        "kernel-times": Report(kernel_times.table),
        "scaling": Report(scaling.table, scaling.draw),
        "startup": Report(startup.table),
        "agreement": Report(agreement.table),
        "memory": Report(memory.table),
    }


def write(rows: Iterable[AnyRow], name: str, output: Path, json_file: Path | None) -> list[AnyRow]:
    """Record rows as they come; then write their tables and plots, and show them."""
    path = json_file or output / f"{name}.jsonl"
    kept = recorded(rows, path)
    if json_file is None:
        click.echo(reports()[name].render(path))
    return kept


def show(about: dict[str, Any], packages: Sequence[str], table: str, path: Path) -> None:
    """Write and print a table, under the machine it was measured on."""
    text = f"{describe(about, *packages)}\n\n`{command_line()}`\n\n{table}\n"
    path.write_text(text)
    click.echo(text)


def command_line() -> str:
    """The command line, without the options that say where files go."""
    words = iter(sys.argv[1:])
    kept = []
    for word in words:
        if word in _PATH_OPTIONS:
            next(words, None)
        elif not word.startswith(tuple(f"{name}=" for name in _PATH_OPTIONS)):
            kept.append(word)
    return f"python -m benchmarks {shlex.join(kept)}"


def write_contenders(rows: Iterable[Any], name: str, output: Path, json_file: Path | None) -> int:
    """Write rows as `write` does, name the contenders that failed; the exit code of the command."""
    kept = write(rows, name, output, json_file)
    return complain_of(row.contender for row in kept if getattr(row, "failed", False))


def complain_of(failed: Iterable[str]) -> int:
    """Name contenders that broke or are wrong; the exit code of the command."""
    names = ", ".join(dict.fromkeys(failed))
    if names:
        click.echo(f"benchmarks: broke, or are wrong, and were not timed: {names}", err=True)
    return int(bool(names))
