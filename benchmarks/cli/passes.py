"""Runs `passes`, which times the K passes alone, in batches."""

from __future__ import annotations

import math
import time
from pathlib import Path

import click

from pnp_ovss.engine.device import open_device

from ..harness.records import machine, recorded
from .options import (
    chosen,
    model_option,
    output_option,
    rounds_option,
    say_with_time,
    work_folder,
    work_option,
)
from .results import command_line, complain_of, show


@click.command("passes")
@model_option
@click.option("--device", default="cpu", show_default=True, help="Device: cpu or cuda:N.")
@click.option(
    "--image-size",
    "sizes",
    multiple=True,
    type=int,
    help="Side of the model's input in pixels; repeatable.  [default: 336]",
)
@click.option(
    "--batch", "batches", multiple=True, type=int, help="Batch size; repeatable.  [default: 1]"
)
@click.option(
    "--contender",
    "names",
    multiple=True,
    help="Contender to time, such as eager-fp32, compile-bf16 or aotinductor-bf16; repeatable. By"
    " default all: PyTorch, and every backend in every precision.",
)
@rounds_option(5)
@click.option(
    "--minutes", type=float, help="Minutes after which no contender starts; the rest are skipped."
)
@work_option
@output_option("passes")
def command(
    model: str,
    device: str,
    sizes: tuple[int, ...],
    batches: tuple[int, ...],
    names: tuple[str, ...],
    rounds: int,
    minutes: float | None,
    work: Path | None,
    output: Path,
) -> int:
    """Time the K passes on every backend against PyTorch, in batches, from pixels to salience."""
    from ..contenders.passes import PASSES_CONTENDERS
    from ..harness.models import check_name
    from ..measures import passes

    check_name(model)
    open_device(device)
    began = time.monotonic()
    with work_folder(work) as folder:
        measured = passes.measure(
            model,
            device=device,
            sizes=sizes or (336,),
            batches=sorted(batches or (1,)),
            names=chosen(names, PASSES_CONTENDERS),
            rounds=rounds,
            folder=folder,
            until=math.inf if minutes is None else began + 60 * minutes,
            about={"machine": machine(device), "command": command_line()},
            say=say_with_time(),
        )
        rows = recorded(measured, output / "passes.jsonl")
    show(machine(device), ["torch"], passes.table(rows), output / "passes.md")
    passes.draw(rows, output / "passes.png")
    code = complain_of(row.get("contender", "all") for row in rows if row.get("failed"))
    if not any("median_s" in row for row in rows):
        reasons = "; ".join(dict.fromkeys(row["skipped"] for row in rows if "skipped" in row))
        click.echo(f"benchmarks: nothing was timed: {reasons}", err=True)
        return 1
    return code
