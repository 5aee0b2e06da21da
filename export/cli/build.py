"""Implements `pnp-ovss build`, which builds the graphs of a model folder ahead of time."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any, get_args

import click

from ...engine.cli.terminal import print_json, progress, say
from ...engine.errors import BackendError
from ...engine.model import builds
from ...engine.model.folder import open_model
from ...engine.model.signature import CAPTION_LENGTHS
from ...engine.precision import Precision
from ...engine.settings import CHOICES, Settings
from ..build import BUILDERS


class _CommaSeparated(click.ParamType):
    """Values separated by commas.

    Args:
        name: name of a value in help texts.
        item: regular expression of a value.
        expected: description of the values in errors.
        convert: conversion of a value.
    """

    def __init__(
        self, name: str, item: str, expected: str, convert: Callable[[str], int | str]
    ) -> None:
        self.name = f"{name}[,{name}...]"
        self._item, self._expected, self._convert = item, expected, convert

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int | str, ...]:
        """Convert the text of an option to a tuple."""
        if not isinstance(value, str):
            return value
        if not re.fullmatch(f"{self._item}(,{self._item})*", value):
            self.fail(f"{value!r} are not {self._expected}", param, ctx)
        return tuple(map(self._convert, value.split(",")))


_SIZES = _CommaSeparated("N", r"[1-9]\d*", "numbers from 1, such as 1,4,16", int)
_CAPABILITIES = _CommaSeparated(
    "X.Y",
    r"\d+\.\d",
    "compute capabilities, such as 8.6,8.9",
    lambda part: f"sm_{part.replace('.', '')}",
)


@click.command("build")
@click.argument("model", metavar="DIR")
@click.option(
    "--target",
    type=click.Choice(list(BUILDERS)),
    required=True,
    help="Library that runs the builds.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Precision of the arithmetic; LayerNorm, softmax and the gradient's reductions are in"
    " fp32.  [default: fp16 on a GPU, fp32 on the CPU]",
)
@click.option(
    "--batch",
    "batches",
    type=_SIZES,
    default=",".join(map(str, builds.BATCHES)),
    show_default=True,
    help="Batch sizes to build for, in images or captions.",
)
@click.option(
    "--tokens",
    type=_SIZES,
    help="Caption lengths to build for, in tokens; a caption is padded to the next length."
    f"  [default: the model folder's lengths, {','.join(map(str, CAPTION_LENGTHS))}]",
)
@click.option(
    "--drop-mode",
    type=click.Choice([str(mode) for mode in CHOICES["drop_mode"]]),
    default=Settings().drop_mode,
    show_default=True,
    help="Drop mode whose graphs are built; tokens has one more, of the image encoder on some"
    " tokens.",
)
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    metavar="NAME",
    help="Graph to build; may be repeated.  [default: all graphs of --drop-mode]",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Device that aotinductor compiles for: auto (the first GPU, or else the CPU), cpu, cuda or"
    " cuda:N.",
)
@click.option(
    "--compute-capability",
    "architectures",
    type=_CAPABILITIES,
    default=(),
    help="GPUs that TensorRT builds for; tensorrt-rtx builds without these GPUs.  [default: the"
    " first GPU]",
)
@click.option("--overwrite", is_flag=True, help="Replace existing builds.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the builds' records on standard output."
)
def command(model: str, target: str, device: str, as_json: bool, **options: Any) -> None:
    """Build the graphs of the model in DIR ahead of time, for one kind of GPU or CPU.

    DIR is a model folder, a hub id exported before, or 'demo'. A build of TensorRT takes the
    shapes it was made for: every --batch with every length of --tokens. A build of aotinductor
    takes any shape.
    """
    if BUILDERS[target] == "aotinductor":
        options["device"] = device
    elif device != "auto":
        raise BackendError(
            f"--device {device} is an option of aotinductor only: {target} builds for the GPUs of"
            " --compute-capability, by default the first GPU of this machine",
            "leave --device out; CUDA_VISIBLE_DEVICES=N makes GPU N the first",
        )
    opened = open_model(model)
    try:
        builder = importlib.import_module(f"..build.{BUILDERS[target]}", __package__)
    except ImportError as error:
        raise BackendError(
            f"building for {target} needs more packages: {error}",
            f"pip install 'pnp-ovss[{target}]'",
        ) from error
    built = builder.build(opened, target=target, say=progress, **options)
    if as_json:
        print_json([{"path": str(path), "record": record} for path, record in built])
        return
    for path, _ in built:
        say(str(path))
