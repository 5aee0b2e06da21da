"""Runs `end-to-end`, which times whole segmenters against eager PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pnp_ovss.engine.runners import AUTO

from ..contenders.base import DROP_MODES, LEAN, PIXELS, RELEASED
from ..contenders.registry import SEGMENTERS
from .options import (
    case_of,
    case_options,
    chosen,
    is_default,
    json_option,
    output_option,
    rounds_option,
    say_with_time,
)
from .results import write_contenders

_QUICK_ROUNDS = 3


@click.command("end-to-end")
@case_options
@click.option(
    "--contender",
    "names",
    multiple=True,
    help="Contender to time; repeatable. By default all: PyTorch, and every backend in every"
    " precision.",
)
@click.option(
    "--drop-mode",
    "modes",
    multiple=True,
    type=click.Choice(DROP_MODES),
    help="Drop mode of the engine's contenders; repeatable. By default all; only pixels is the"
    " paper's.",
)
@rounds_option(7)
@click.option(
    "--refcheck/--no-refcheck",
    default=True,
    show_default=True,
    help="First compare each contender with `lean`, eager PyTorch. A wrong contender is not timed,"
    " and the command fails.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Take two minutes, by other defaults: BLIP-base at 112 px, 3 rounds, eager PyTorch and the"
    " engine in fp32, the paper's drop mode.",
)
@json_option
@output_option("end-to-end")
def command(
    names: tuple[str, ...],
    modes: tuple[str, ...],
    rounds: int,
    refcheck: bool,
    quick: bool,
    json_file: Path | None,
    output: Path,
    **options: Any,
) -> int:
    """Time PyTorch against the engine on every backend, from the image file to the label file."""
    from ..measures import end_to_end

    case = case_of(options, quick=quick)
    contenders = chosen(names, SEGMENTERS)
    if quick and not names:
        contenders = [RELEASED, LEAN, *(f"{backend}-fp32" for backend in AUTO)]
    if refcheck and LEAN not in contenders:
        raise click.UsageError(
            f"--refcheck compares with {LEAN}, which was not named: add --contender {LEAN}"
        )
    if quick and is_default("rounds"):
        rounds = _QUICK_ROUNDS
    say = say_with_time()
    rows = case.measured(
        lambda model, about: end_to_end.measure(
            model,
            case.task,
            contenders,
            modes=modes or ([PIXELS] if quick else DROP_MODES),
            rounds=rounds,
            refcheck=refcheck,
            about=about,
            say=say,
        ),
        say,
    )
    return write_contenders(rows, "end-to-end", output, json_file)
