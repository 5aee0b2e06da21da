"""`scaling`: how the time grows."""

from __future__ import annotations

from typing import Any

import click

from .options import contender_options, measure_contenders


@click.command("scaling")
@contender_options(
    "scaling",
    rounds=3,
    all_of_them="`lean` and every backend in every precision",
    timed=True,
)
def command(**options: Any) -> int:
    """Seconds a picture by the number of classes, of passes, and of pictures in a batch."""
    from ..contenders.base import LEAN
    from ..contenders.registry import ENGINE_SEGMENTERS
    from ..measures import scaling

    return measure_contenders("scaling", scaling.measure, [LEAN, *ENGINE_SEGMENTERS], options)
