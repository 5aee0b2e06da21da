"""Adds the options of a fused graph to `pnp-ovss export`, and reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ...engine.cli.classes import classes_options, read_classes
from ...engine.cli.options import OF_FUSED, choose_settings, fused_settings_options
from ...engine.errors import BackendError
from ...engine.settings import Settings

OPTIONS = frozenset({"classes", "classes_file", "output_size", "uint8", *OF_FUSED})
"""Names of the options that only a fused graph has."""


@contextmanager
def writing_onnx() -> Iterator[None]:
    """Tell what to install where a package is missing that writes a fused graph.

    Raises:
        BackendError: one is missing.
    """
    try:
        yield
    except ImportError as error:
        raise BackendError(
            f"a fused graph is written with ONNX: {error}", "pip install onnx onnx-ir"
        ) from error


class _Size(click.ParamType):
    """Height and width in pixels."""

    name = "HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Convert the text of an option to a tuple."""
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d{1,9})x(\d{1,9})", value)
        if not found:
            self.fail(f"{value!r} is no height and width in pixels, such as 480x640", param, ctx)
        return int(found[1]), int(found[2])


def fused_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--fused` and the options that say what is fixed in the graph."""
    function = fused_settings_options(function)
    function = click.option(
        "--uint8",
        is_flag=True,
        help="The fused graph takes RGB pixels, uint8, and normalizes them.",
    )(function)
    function = click.option(
        "--output-size",
        type=_Size(),
        metavar="HxW",
        help="Height and width of images, in pixels; the fused graph gives their labels too,"
        " without the CRF.",
    )(function)
    function = classes_options(function)
    return click.option(
        "--fused",
        is_flag=True,
        help="Write onnx/segment.onnx too: the whole method as one graph, for hosts without this"
        " package. The options below are fixed in it; --classes makes the caption a part of it.",
    )(function)


def read_fused(
    recommended: Settings,
    *,
    classes: Sequence[str],
    classes_file: Path | None,
    output_size: tuple[int, int] | None,
    uint8: bool,
    preset: str | None,
    **given: Any,
) -> Any:
    """Make `export.fused.Fused` of the options.

    Args:
        recommended: settings of the model, for what is not given.
        classes: see `read_classes`.
        classes_file: see `read_classes`.
        output_size: height and width of the labels.
        uint8: whether the graph takes pixels of 8 bits.
        preset: name of a preset.
        given: settings, None where they are not given.

    Raises:
        InputError: a setting, a class or the size cannot be had.
        ImportError: a package that writes ONNX is missing.
    """
    from ..fused import Fused

    named = classes or classes_file
    return Fused(
        settings=choose_settings(recommended, preset, given),
        classes=tuple(read_classes(classes, classes_file)) if named else None,
        output_size=output_size,
        uint8=uint8,
    )
