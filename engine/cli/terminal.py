"""Print results on standard output, and everything else on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

from ..errors import OutputError, printable
from ..json_text import indented_json

Item = TypeVar("Item")


def complain(cause: str, cure: str = "") -> None:
    """Print a cause and a cure on standard error, a line each."""
    click.echo(f"pnp-ovss: {_in_one_line(cause)}", err=True)
    if cure:
        click.echo(f"  {_in_one_line(cure)}", err=True)


def say(text: str) -> None:
    """Print a line on standard output, which may be a closed pipe or a full disk.

    Raises:
        OutputError: the line cannot be written.
    """
    try:
        sys.stdout.write(f"{printable(text)}\n")
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that nothing fails again at exit
        if not isinstance(error, BrokenPipeError):  # whoever read it has gone, as with `| head`
            raise OutputError(
                f"cannot write to standard output: {error.strerror}",
                "free some space, or write to another place",
            ) from error


def progress(text: str) -> None:
    """Print a line about a step on standard error."""
    click.echo(printable(text), err=True)


def bar(items: Iterable[Item], length: int, label: str) -> Iterator[Item]:
    """Yield items, with a bar on standard error if that is a terminal."""
    with click.progressbar(
        items, length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as shown:
        yield from shown


def _in_one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def print_json(value: object) -> None:
    """Print a value as indented JSON on standard output."""
    say(indented_json(value).decode().rstrip("\n"))
