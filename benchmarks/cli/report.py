"""Runs `report`, which writes the tables and plots of recorded rows."""

from __future__ import annotations

from pathlib import Path

import click

from pnp_ovss.engine.errors import InputError

from ..harness.records import RESULTS, read
from .results import reports

README = Path(__file__).parents[1] / "README.md"


@click.command("report")
@click.option(
    "--results",
    default=RESULTS,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of recorded rows; by default benchmarks/results.",
)
@click.option(
    "--readme",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Document that gets the table of end-to-end; by default benchmarks/README.md, if --results"
    " is benchmarks/results.",
)
def command(results: Path, readme: Path | None) -> None:
    """Write tables (Markdown) and plots (PNG) of recorded rows, and the table of a document."""
    from ..measures import end_to_end

    by_command = reports()
    files = {name: results / name / f"{name}.jsonl" for name in by_command}
    recorded = {name: path for name, path in files.items() if path.exists()}
    if not recorded:
        raise InputError(
            f"no rows are recorded in '{results}'", "measure first: python -m benchmarks end-to-end"
        )
    for name, path in recorded.items():
        by_command[name].render(path)
        click.echo(path.with_suffix(".md"))
    if readme is None and results.resolve() == RESULTS.resolve():
        readme = README
    if readme and "end-to-end" in recorded:
        table = end_to_end.summary(read(recorded["end-to-end"]))
        readme.write_text(insert(readme.read_text(), "end-to-end", table))
        click.echo(readme)


def insert(text: str, name: str, table: str) -> str:
    """Put a table into a document, between `<!-- name -->` and `<!-- /name -->`.

    Args:
        text: Document in Markdown.
        name: Name in both comments.
        table: Table in Markdown, which replaces all text between the comments.

    Raises:
        InputError: The document lacks the comments.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, begins, rest = text.partition(first)
    _, ends, after = rest.partition(last)
    if not (begins and ends):
        raise InputError(
            f"the document has no lines {first} and {last}",
            "write both where the table belongs, or leave --readme out",
        )
    return f"{before}{first}\n\n{table}\n\n{last}{after}"
