"""`stages`: where the time of a picture goes."""

from __future__ import annotations

from typing import Any

import click

from .options import contender_options, measure_contenders


@click.command("stages")
@contender_options("stages", rounds=5, all_of_them="all")
def command(**options: Any) -> int:
    """Decode, image encoder, matching branch, refinement, CRF: seconds of each, one by one."""
    from ..contenders.registry import SEGMENTERS
    from ..measures import stages

    return measure_contenders("stages", stages.measure, SEGMENTERS, options)
