"""`python -m benchmarks`: how fast, measured fairly."""

from __future__ import annotations

import math
import platform
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

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

    rows = _recorded(crf.measure(rounds), output / "crf.jsonl")
    _show(machine("pydensecrf2"), crf.table(rows), output / "crf.md")
    crf.draw(rows, output / "crf.png")


@cli.command("precision")
@click.option("--scenes", default=200, show_default=True, help="Sticker scenes, from the first.")
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

    rows = _recorded(precision.measure(scenes), output / "precision.jsonl")
    table = f"{precision.NOTE}\n\n{precision.table(rows)}"
    _show(machine("torch", "onnxruntime"), table, output / "precision.md")


@cli.command("passes")
@click.option(
    "--model",
    default="random:blip-large",
    show_default=True,
    help="Shape of the model, with random weights: random:blip-tiny, -base or -large.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda:N.")
@click.option("--image-size", "sizes", multiple=True, type=int, help="Repeatable.  [default: 336]")
@click.option("--batch", "batches", multiple=True, type=int, help="Repeatable.  [default: 1]")
@click.option(
    "--contender",
    "names",
    multiple=True,
    help="Repeatable; by default all: PyTorch, and every backend in every precision.",
)
@click.option("--rounds", default=5, show_default=True, help="Turns of each contender.")
@click.option(
    "--minutes", type=float, help="Begin nothing after so many; what is skipped is named."
)
@click.option(
    "-o",
    "--output",
    default=RESULTS / "passes",
    type=click.Path(path_type=Path),
    help="Folder for passes.jsonl, passes.md and passes.png; by default benchmarks/results/passes.",
)
def _passes(
    model: str,
    device: str,
    sizes: tuple[int, ...],
    batches: tuple[int, ...],
    names: tuple[str, ...],
    rounds: int,
    minutes: float | None,
    output: Path,
) -> None:
    """The K passes on every backend against PyTorch; needs the extras `export` and `evaluate`."""
    from . import passes
    from .contenders import CONTENDERS
    from .random_models import SHAPES

    shape = model.removeprefix("random:")
    if shape not in SHAPES:
        known = ", ".join(f"random:{name}" for name in SHAPES)
        raise click.UsageError(f"unknown model {model!r}; there are: {known}")
    unknown = set(names) - set(CONTENDERS)
    if unknown:
        raise click.UsageError(f"no contender {min(unknown)!r}; there are: {', '.join(CONTENDERS)}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        measured = passes.measure(
            shape,
            device=device,
            sizes=sizes or (336,),
            batches=sorted(batches or (1,)),
            names=names or CONTENDERS,
            rounds=rounds,
            folder=Path(folder),
            until=math.inf if minutes is None else began + 60 * minutes,
            say=lambda text: click.echo(f"{time.monotonic() - began:6.0f} s  {text}", err=True),
        )
        rows = _recorded(measured, output / "passes.jsonl")
    _show(machine("torch", device=device), passes.table(rows), output / "passes.md")
    passes.draw(rows, output / "passes.png")


Row = TypeVar("Row")


def _recorded(rows: Iterable[Row], path: Path) -> list[Row]:
    """The rows, each written as soon as it is measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    recorded = []
    with path.open("wb") as file:
        for row in rows:
            line = msgspec.json.encode(row)
            file.write(line + b"\n")
            file.flush()
            recorded.append(row)
            click.echo(line.decode(), err=True)
    return recorded


def _show(about: str, table: str, path: Path) -> None:
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    text = f"{about}\n\n`{command}`\n\n{table}\n"
    path.write_text(text)
    click.echo(text)


def machine(*packages: str, device: str = "cpu") -> str:
    """What the figures were measured on, and with."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    place = f"{names[0] if names else platform.processor()}, {processors()} processors"
    if device != "cpu":
        import torch

        place = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}; {place}"
    return f"{place}, Python {platform.python_version()}, {versions}, {date.today().isoformat()}"


if __name__ == "__main__":
    cli()
