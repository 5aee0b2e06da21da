"""`startup`: how long the first picture takes."""

from __future__ import annotations

from typing import Any

import click

from .options import contender_options, measure_contenders


@click.command("startup")
@contender_options("startup", rounds=5, all_of_them="all of the engine's")
def command(**options: Any) -> None:
    """From the start of a process to the first labels, cold and warm; and its memory."""
    from ..contenders.registry import ENGINE_SEGMENTERS
    from ..measures import startup

    measure_contenders("startup", startup.measure, ENGINE_SEGMENTERS, options)
