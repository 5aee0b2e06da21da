"""The command-line options that become `Settings`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..settings import Settings

NONE = "none"


class _Schedule(click.ParamType):
    name = "halving|COUNT"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        if value == "halving" or isinstance(value, int):
            return value
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither 'halving' nor a whole number", param, ctx)


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that become `Settings`; each is None where it is not given."""
    options = [
        click.option(
            "--preset",
            type=click.Choice(["paper", "released"]),
            help="Follow the paper, or its authors' code.  [default: what the model recommends]",
        ),
        click.option("--passes", type=int, help="Passes of Salience DropOut."),
        click.option(
            "--drop-schedule", type=_Schedule(), help="Patches dropped in a pass: half, or so many."
        ),
        click.option(
            "--drop-mode",
            type=click.Choice(["pixels", "attention"]),
            help="Blank dropped patches in the picture, or (faster) mask them in the attention.",
        ),
        click.option("--threshold", type=float, help="Salience below this part of the range is 0."),
        click.option("--blur", type=float, help="Sigma, as a part of the picture's longer side."),
        click.option(
            "--background",
            type=click.Choice(["auto", "always", "never"]),
            help="Whether pixels may belong to no class.",
        ),
        click.option(
            "--crf", type=click.Choice(["pydensecrf", NONE]), help="The dense CRF, or none."
        ),
        click.option(
            "--match-threshold", type=float, help="Score that a class needs with --present match."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def choose_settings(recommended: Settings, preset: str | None, given: dict[str, Any]) -> Settings:
    """The preset, or what the model recommends, changed by the options that were given."""
    from ..settings import Settings

    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if "crf" in changes and changes["crf"] == NONE:
        changes["crf"] = None
    return replace(Settings.preset(preset) if preset else recommended, **changes)
