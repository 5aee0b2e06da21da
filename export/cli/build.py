"""`pnp-ovss build`: model folder to builds."""

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


class _List(click.ParamType):
    """Values separated by commas, each of a form."""

    def __init__(
        self, name: str, item: str, wanted: str, convert: Callable[[str], int | str]
    ) -> None:
        self.name = f"{name}[,{name}...]"
        self._item, self._wanted, self._convert = item, wanted, convert

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int | str, ...]:
        if not isinstance(value, str):
            return value
        if not re.fullmatch(f"{self._item}(,{self._item})*", value):
            self.fail(f"{value!r} are not {self._wanted}", param, ctx)
        return tuple(map(self._convert, value.split(",")))


_SIZES = _List("N", r"[1-9]\d*", "numbers from 1, such as 1,4,16", int)
_CAPABILITIES = _List(
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
    help="What is to run them.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Of the arithmetic; LayerNorm, softmax and the gradient's reductions are in fp32."
    "  [default: fp16, and fp32 for the CPU]",
)
@click.option(
    "--batch",
    "batches",
    type=_SIZES,
    default=",".join(map(str, builds.BATCHES)),
    show_default=True,
    help="Images, or captions, that go through the model together.",
)
@click.option(
    "--tokens",
    type=_SIZES,
    help="Lengths of captions; a shorter one is padded to the next."
    f"  [default: those of the model folder, {','.join(map(str, CAPTION_LENGTHS))}]",
)
@click.option(
    "--drop-mode",
    type=click.Choice([str(mode) for mode in CHOICES["drop_mode"]]),
    default=Settings().drop_mode,
    show_default=True,
    help="Build what it runs; tokens takes a build more, of the image encoder on some tokens.",
)
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    metavar="NAME",
    help="Build this graph of the model, may be repeated.  [default: all that --drop-mode runs]",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="What aotinductor compiles for: auto (the first GPU, or else the CPU), cpu, cuda or"
    " cuda:N.",
)
@click.option(
    "--compute-capability",
    "architectures",
    type=_CAPABILITIES,
    default=(),
    help="GPUs to build for; tensorrt-rtx needs none of them to be here.  [default: the first GPU]",
)
@click.option("--overwrite", is_flag=True, help="Build them even if they are there.")
@click.option("--json", "as_json", is_flag=True, help="Print the records on standard output.")
def command(model: str, target: str, device: str, as_json: bool, **options: Any) -> None:
    """Build the graphs of the model in DIR ahead of time, for one kind of GPU or CPU.

    DIR is a model folder, a hub id exported before, or 'demo'. A build of TensorRT takes the
    shapes it was made for: every --batch with every number of --tokens. Those of aotinductor take
    any.
    """
    if BUILDERS[target] == "aotinductor":
        options["device"] = device
    elif device != "auto":
        raise BackendError(
            f"--device {device} is for aotinductor alone: {target} builds for the GPUs named with"
            " --compute-capability, by default the first one that is here",
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
