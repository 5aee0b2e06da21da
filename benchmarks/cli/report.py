"""`report`: tables and plots of what was recorded."""

from __future__ import annotations

from pathlib import Path

import click
from pnp_ovss.engine.errors import InputError

from ..harness.records import RESULTS, read

README = Path(__file__).parents[2] / "README.md"


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
    " benchmarks/results, the README.",
)
def command(results: Path, readme: Path | None) -> None:
    """Tables (Markdown) and plots (PNG) beside the recorded rows, and the table in the README."""
    from ..harness import tables as report
    from ..harness.reports import REPORTS

    found = {name: results / name / f"{name}.jsonl" for name in REPORTS}
    found = {name: path for name, path in found.items() if path.exists()}
    if not found:
        raise InputError(
            f"nothing is recorded in '{results}'", "measure first: python -m benchmarks end-to-end"
        )
    for name, path in found.items():
        REPORTS[name].render(path)
        click.echo(path.with_suffix(".md"))
    if readme is None and results.resolve() == RESULTS.resolve():
        readme = README
    if readme and "end-to-end" in found:
        table = report.summary(read(found["end-to-end"]))
        readme.write_text(report.insert(readme.read_text(), "end-to-end", table))
        click.echo(readme)
