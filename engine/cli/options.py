"""Add the command-line options that several commands share; most become `Settings`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from ..precision import PRECISIONS
from ..runners import BACKENDS
from ..settings import CHOICES, PRESETS, Settings

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
    """Add an option for each setting; None where it is not given, so that the model decides."""
    return _added(function, _OPTIONS)


def fused_settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the settings that a fused graph has; see `settings_options`."""
    return _added(function, {name: _OPTIONS[name] for name in OF_FUSED})


_OPTIONS: dict[str, Callable[..., Any]] = {
    "preset": click.option(
        "--preset",
        type=click.Choice(list(PRESETS)),
        help="Follow the paper, or its authors' code. By default the model's manifest decides this"
        " and the settings below.",
    ),
    "passes": click.option("--passes", type=int, help="Passes of Salience DropOut."),
    "drop_schedule": click.option(
        "--drop-schedule",
        type=_Schedule(),
        metavar="halving|COUNT",
        help="Patches dropped in a pass: half, or so many.",
    ),
    "drop_mode": click.option(
        "--drop-mode",
        type=click.Choice([str(choice) for choice in CHOICES["drop_mode"]]),
        help="Blank dropped patches in the image; or, faster, leave their tokens out of the image"
        " encoder; or, fastest, run it once and mask them in the cross-attention.",
    ),
    "threshold": click.option(
        "--threshold", type=float, help="A map is 0 below this part of its range."
    ),
    "blur": click.option("--blur", type=float, help="Sigma, as a part of the image's longer side."),
    "background": click.option(
        "--background",
        type=click.Choice([str(choice) for choice in CHOICES["background"]]),
        help="Whether pixels may belong to no class; auto: where fewer than 3 are looked for.",
    ),
    "crf": click.option(
        "--crf",
        type=click.Choice([choice or NONE for choice in CHOICES["crf"]]),
        help="The dense CRF: that of pnp-ovss, where the model runs or on the CPU; the package"
        " pydensecrf2; or none.",
    ),
    "refine_side": click.option(
        "--refine-side",
        type=click.IntRange(1),
        metavar="N",
        help="Compute channels and CRF with the longer side of the image at N pixels at most, and"
        " enlarge the result: faster on large photographs, and often better, as the reach of the"
        " CRF is fixed in pixels.  [default: at full size]",
    ),
    "match_threshold": click.option(
        "--match-threshold", type=float, help="Score that a class needs with --present match."
    ),
}
"""By the names of the settings, in the order of the help."""

_NOT_OF_FUSED = ("crf", "refine_side", "match_threshold")
OF_FUSED = tuple(name for name in _OPTIONS if name not in _NOT_OF_FUSED)
"""Names of the options that `fused_settings_options` adds."""


def placement_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--backend`, `--device`, `--precision` and `--threads`: what runs the model, and how."""
    function = click.option(
        "--threads",
        type=click.IntRange(1),
        help="Threads of the CPU that the model may use at a time, and as many that prepare and"
        " refine images. By default one for each processor.",
    )(function)
    function = click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="auto",
        show_default=True,
        help="Of the arithmetic. auto is the most exact that the backend has: fp32, or what a build"
        " was made in. On the CPU, bf16 and int8 need OpenVINO, or bf16 and fp16 a build.",
    )(function)
    function = click.option(
        "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
    )(function)
    return click.option(
        "--backend", default="auto", show_default=True, help=f"auto, {', '.join(BACKENDS)}."
    )(function)


def choose_settings(recommended: Settings, preset: str | None, given: dict[str, Any]) -> Settings:
    """Change the preset, or the recommended settings, by the options that were given."""
    changes: dict[str, Any] = {
        name: None if value == NONE else value for name, value in given.items() if value is not None
    }
    return replace(Settings.preset(preset) if preset else recommended, **changes)


def _added(
    function: Callable[..., Any], options: dict[str, Callable[..., Any]]
) -> Callable[..., Any]:
    for option in reversed(options.values()):
        function = option(function)
    return function
