"""Runs `startup`, which measures how long the first image takes."""

from __future__ import annotations

from typing import Any

import click

from .options import contender_options, measure_contenders


@click.command("startup")
@contender_options("startup", rounds=5, default_contenders="all of the engine's")
def command(**options: Any) -> None:
    """Time the start of a process to its first labels, cold and warm; measure its memory."""
    from ..contenders.registry import ENGINE_SEGMENTERS
    from ..measures import startup

    measure_contenders("startup", startup.measure, ENGINE_SEGMENTERS, options)
