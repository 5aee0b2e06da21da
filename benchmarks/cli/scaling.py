"""Runs `scaling`, which measures how the time of an image grows."""

from __future__ import annotations

from typing import Any

import click

from .options import contender_options, measure_contenders


@click.command("scaling")
@contender_options(
    "scaling",
    rounds=3,
    default_contenders="`lean` and every backend in every precision",
    timed=True,
)
def command(**options: Any) -> int:
    """Time an image by the number of classes, of passes, and of images in a batch."""
    from ..contenders.base import LEAN
    from ..contenders.registry import ENGINE_SEGMENTERS
    from ..measures import scaling

    return measure_contenders("scaling", scaling.measure, [LEAN, *ENGINE_SEGMENTERS], options)
