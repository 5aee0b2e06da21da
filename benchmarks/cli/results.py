"""Records the rows of a command, makes tables and plots of them, and shows the tables."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..harness.records import AnyRow, Rows, describe, read, recorded

_PATH_OPTIONS = ("-o", "--output", "--json", "--work", "--build")


@dataclass(frozen=True)
class Report:
    """Makes the table and the plot of recorded rows.

    Attributes:
        table: Function that writes the rows as a table in Markdown.
        draw: Function that draws the rows as a PNG file; None for rows without a plot.
    """

    table: Callable[[Rows], str]
    draw: Callable[[Rows, Path], None] | None = None

    def render(self, path: Path) -> str:
        """Write `<stem>.md` and any `<stem>.png` next to the file of rows; return the table."""
        rows = read(path)
        text = self.table(rows) + "\n"
        path.with_suffix(".md").write_text(text)
        if self.draw:
            self.draw(rows, path.with_suffix(".png"))
        return text


def reports() -> dict[str, Report]:
    """Return the reports by subcommand; only this imports what makes the tables and plots."""
    from ..measures import (
        agreement,
        c_library,
        end_to_end,
        kernel_times,
        kernels,
        memory,
        refinement,
        scaling,
        soak,
        stages,
        startup,
    )

    return {
        "end-to-end": Report(end_to_end.table, stages.draw),
        "stages": Report(stages.table, stages.draw),
        "kernels": Report(kernels.table),
        "kernel-times": Report(kernel_times.table),
        "scaling": Report(scaling.table, scaling.draw),
        "refinement": Report(refinement.table),
        "c-library": Report(c_library.table),
        "startup": Report(startup.table),
        "soak": Report(soak.table),
        "agreement": Report(agreement.table),
        "memory": Report(memory.table),
    }


def write(rows: Iterable[AnyRow], name: str, output: Path, json_file: Path | None) -> list[AnyRow]:
    """Record rows as they are measured; then write and show their table, and write their plot.

    Args:
        rows: Rows; each may take long to measure.
        name: Subcommand that measures them, a key of `reports`.
        output: Folder for rows, table and plot.
        json_file: File for the rows alone, without table and plot; None to use the folder.

    Returns:
        All rows.
    """
    path = json_file or output / f"{name}.jsonl"
    written = recorded(rows, path)
    if json_file is None:
        click.echo(reports()[name].render(path))
    return written


def show(about: dict[str, Any], packages: Sequence[str], table: str, path: Path) -> None:
    """Write and print a table, under a line on the machine and the command.

    Args:
        about: Facts of the machine, from `records.machine`.
        packages: Packages whose versions are named.
        table: Table in Markdown.
        path: File for the text.
    """
    text = f"{describe(about, *packages)}\n\n`{command_line()}`\n\n{table}\n"
    path.write_text(text)
    click.echo(text)


def command_line() -> str:
    """Return the command line of this process, without the options that name files and folders."""
    words = iter(sys.argv[1:])
    shown = []
    for word in words:
        if word in _PATH_OPTIONS:
            next(words, None)
        elif not word.startswith(tuple(f"{name}=" for name in _PATH_OPTIONS)):
            shown.append(word)
    return f"python -m benchmarks {shlex.join(shown)}"


def write_contenders(rows: Iterable[Any], name: str, output: Path, json_file: Path | None) -> int:
    """Write rows (see `write`), name the contenders that failed, and return the exit code."""
    written = write(rows, name, output, json_file)
    return complain_of(row.contender for row in written if getattr(row, "failed", False))


def complain_of(failed: Iterable[str]) -> int:
    """Name the contenders that broke or are wrong, and return the exit code of the command."""
    names = ", ".join(dict.fromkeys(failed))
    if names:
        click.echo(f"benchmarks: not timed, as they broke or are wrong: {names}", err=True)
    return int(bool(names))
