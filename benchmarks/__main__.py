"""`python -m benchmarks`: how fast, measured fairly."""

from __future__ import annotations

import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import msgspec
from pnp_ovss.engine.pipeline import processors

RESULTS = Path(__file__).parent / "results"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Measure this machine. Contenders take turns, because speed drifts: believe the ratios."""


@cli.command("crf")
@click.option("--rounds", default=9, show_default=True, help="Turns of each contender.")
@click.option(
    "-o",
    "--output",
    default=RESULTS / "crf",
    type=click.Path(path_type=Path),
    help="Folder for crf.jsonl, crf.md and crf.png; by default benchmarks/results/crf.",
)
def _crf(rounds: int, output: Path) -> None:
    """The dense CRF against pydensecrf2; needs the extras `crf` and `evaluate`."""
    from . import crf

    output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with (output / "crf.jsonl").open("wb") as file:
        for row in crf.measure(rounds):
            file.write(msgspec.json.encode(row) + b"\n")
            file.flush()
            rows.append(row)
            click.echo(msgspec.json.encode(row).decode())
    text = f"{machine()}\n\n`python -m benchmarks crf --rounds {rounds}`\n\n{crf.table(rows)}\n"
    (output / "crf.md").write_text(text)
    crf.draw(rows, output / "crf.png")
    click.echo(text)


def machine() -> str:
    """What the figures were measured on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.processor()}, {processors()} processors,"
        f" Python {platform.python_version()}, pydensecrf2 {version('pydensecrf2')},"
        f" {date.today().isoformat()}"
    )


if __name__ == "__main__":
    cli()
