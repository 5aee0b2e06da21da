"""`report`: tables and plots of what was recorded."""

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
    help="Document with a place for the table of end-to-end; by default, of what is in"
    " benchmarks/results, benchmarks/README.md.",
)
def command(results: Path, readme: Path | None) -> None:
    """Tables (Markdown) and plots (PNG) beside the recorded rows, and the table in a document."""
    from ..measures import end_to_end

    known = reports()
    found = {name: results / name / f"{name}.jsonl" for name in known}
    found = {name: path for name, path in found.items() if path.exists()}
    if not found:
        raise InputError(
            f"nothing is recorded in '{results}'", "measure first: python -m benchmarks end-to-end"
        )
    for name, path in found.items():
        known[name].render(path)
        click.echo(path.with_suffix(".md"))
    if readme is None and results.resolve() == RESULTS.resolve():
        readme = README
    if readme and "end-to-end" in found:
        table = end_to_end.summary(read(found["end-to-end"]))
        readme.write_text(insert(readme.read_text(), "end-to-end", table))
        click.echo(readme)


def insert(text: str, name: str, table: str) -> str:
    """A document with a table in its place, between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        InputError: the document has no such place.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(first)
    _, closed, after = rest.partition(last)
    if not (found and closed):
        raise InputError(f"there is no place {first} ... {last}", "put both where the table goes")
    return f"{before}{first}\n\n{table}\n\n{last}{after}"
