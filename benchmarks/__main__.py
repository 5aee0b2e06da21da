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
    measured = f"{machine('pydensecrf2')}\n\n`python -m benchmarks crf --rounds {rounds}`"
    text = f"{measured}\n\n{crf.table(rows)}\n"
    (output / "crf.md").write_text(text)
    crf.draw(rows, output / "crf.png")
    click.echo(text)


@cli.command("precision")
@click.option("--scenes", default=500, show_default=True, help="Sticker scenes, from the first.")
@click.option(
    "-o",
    "--output",
    default=RESULTS / "precision",
    type=click.Path(path_type=Path),
    help="Folder for precision.jsonl and precision.md; by default benchmarks/results/precision.",
)
def _precision(scenes: int, output: Path) -> None:
    """How far float16 and bfloat16 are from float32: eager PyTorch, and the engine's graphs."""
    from . import precision

    output.mkdir(parents=True, exist_ok=True)
    rows: list[precision.Row] = []
    with (output / "precision.jsonl").open("wb") as file:
        for row in precision.measure(scenes):
            file.write(msgspec.json.encode(row) + b"\n")
            file.flush()
            rows.append(row)
            click.echo(f"{row.engine} {row.precision}: done")
    measured = f"{machine('torch', 'onnxruntime')}\n\n`python -m benchmarks precision"
    text = f"{measured} --scenes {scenes}`\n\n{precision.NOTE}\n\n{precision.table(rows)}\n"
    (output / "precision.md").write_text(text)
    click.echo(text)


def machine(*packages: str) -> str:
    """What the figures were measured on, and with."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return (
        f"{names[0] if names else platform.processor()}, {processors()} processors,"
        f" Python {platform.python_version()}, {versions}, {date.today().isoformat()}"
    )


if __name__ == "__main__":
    cli()
