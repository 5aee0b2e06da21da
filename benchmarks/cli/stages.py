"""Runs `stages`, which measures where the time of an image goes."""

from __future__ import annotations

from typing import Any

import click

from .options import contender_options, measure_contenders


@click.command("stages")
@contender_options("stages", rounds=5, default_contenders="all")
def command(**options: Any) -> int:
    """Time each stage by itself: decode, image encoder, matching branch, refinement, CRF."""
    from ..contenders.registry import SEGMENTERS
    from ..measures import stages

    return measure_contenders("stages", stages.measure, SEGMENTERS, options)
