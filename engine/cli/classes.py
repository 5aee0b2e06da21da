"""Read what to look for from the command line: `--classes` and `--classes-file`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ..errors import InputError, printable, reason, shown
from ..inputs.names import CleanClass, clean_names

_FIELD = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:,|$)|([^",]*)(?:,|$)')


def classes_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--classes` and `--classes-file`, which `read_classes` takes."""
    named = click.option(
        "-c",
        "--classes",
        multiple=True,
        metavar="NAMES",
        help="What to look for, separated by commas: --classes 'cat,potted plant'. Repeatable.",
    )
    listed = click.option(
        "--classes-file",
        type=click.Path(path_type=Path),
        help="A UTF-8 text file with a class a line: its name, or synonyms with commas between"
        ' them, the title first: sofa,couch. A name with a comma stands in quotes: "salt, pepper".',
    )
    return named(listed(function))


def read_classes(groups: Sequence[str], file: Path | None) -> list[CleanClass]:
    """Read classes from the options, those of the file last.

    Args:
        groups: names, each group separated by commas.
        file: text file with a class a line, by the rules of CSV; blank lines count for nothing.

    Raises:
        InputError: the file cannot be read, a line of it breaks the rules, or a name cannot be one.
    """
    classes: list[str | list[str]] = [name for group in groups for name in group.split(",")]
    if file:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:  # ValueError: no UTF-8, or NUL in the path
            raise InputError(
                f"'{printable(str(file))}' cannot be read: {reason(error)}",
                "give a UTF-8 text file",
            ) from error
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                where = f"line {number} of '{printable(str(file))}'"
                classes.append(list(_names(line, where)))
    return clean_names(classes)


def _names(line: str, where: str) -> Iterator[str]:
    """Read the names in a line, which may stand in quotes.

    Raises:
        InputError: a quote has no partner or stands within a name, or a name is empty.
    """
    position, more = 0, True
    while more:
        field = _FIELD.match(line, position)
        if field is None:
            raise InputError(
                f"{where} has a stray quote: {shown(line)}",
                'quote a whole name: "salt, pepper"; double a quote within it: "5"" pipe"',
            )
        quoted, plain = field.groups()
        name = plain if quoted is None else quoted.replace('""', '"')
        if not name.strip():
            raise InputError(f"{where} has an empty name: {shown(line)}", "remove its comma")
        yield name
        position, more = field.end(), field.group().endswith(",")
