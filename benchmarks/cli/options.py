"""Options that subcommands share."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from PIL import Image

from pnp_ovss.engine.device import open_device, usable_devices
from pnp_ovss.engine.inputs.images import load_rgb

from ..contenders.base import Task
from ..harness.prepared import PreparedModel
from ..harness.records import RESULTS, AnyRow, machine
from .results import command_line, write_contenders

QUICK_MODEL, QUICK_SIZE = "random:blip-base", 112


def output_option(name: str) -> Callable[..., Any]:
    """`-o`: the folder of a command's results."""
    return click.option(
        "-o",
        "--output",
        default=RESULTS / name,
        type=click.Path(file_okay=False, path_type=Path),
        help=f"Folder for {name}.jsonl, {name}.md and any plot; by default"
        f" benchmarks/results/{name}.",
    )


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--json`: the rows in a file of the caller's choice."""
    return click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write the rows here, a line of JSON each, and no tables.",
    )(function)


def rounds_option(default: int, *, timed: bool = True) -> Callable[..., Any]:
    """`--rounds`: turns of each contender; where `timing` counts them, the least."""
    more = "; where runs take milliseconds, up to ten times as many" if timed else ""
    return click.option(
        "--rounds",
        default=default,
        show_default=True,
        type=click.IntRange(1),
        help=f"Turns of each contender{more}.",
    )


def say_with_time() -> Callable[[str], None]:
    """A voice on standard error, with the seconds since now."""
    began = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - began:6.0f} s  {text}", err=True)


@dataclass(frozen=True)
class Case:
    """Model, picture and device that a command measures, as its options say.

    Attributes:
        name: of the model, as `models.prepare` takes it.
        image_size: S.
        device: "cpu", "cuda:N", or "auto" for every one that can be used, the CPU first.
        picture: a file.
        classes: that are looked for in it.
        passes: K.
        work: as for `work_folder`.
    """

    name: str
    image_size: int
    device: str
    picture: Path
    classes: tuple[str, ...]
    passes: int
    work: Path | None

    def measured(
        self,
        measure: Callable[[PreparedModel, dict[str, Any]], Iterable[AnyRow]],
        say: Callable[[str], None],
    ) -> Iterator[AnyRow]:
        """Rows of each device.

        Args:
            measure: gives them, of the model there and what is to stand in every row.
            say: is told of each step.

        Raises:
            BackendError: there is no such device.
            ModelError: there is no such shape, or the checkpoint cannot be used.
        """
        from ..harness.models import prepare

        places = usable_devices()[::-1] if self.device == "auto" else [open_device(self.device)]
        with work_folder(self.work) as folder:
            for place in places:
                model = prepare(
                    self.name,
                    image_size=self.image_size,
                    device=place.name,
                    folder=folder,
                    say=say,
                )
                yield from measure(model, self._about(model))

    @property
    def task(self) -> Task:
        """Task that contenders are given."""
        return Task(self.picture, self.classes, self.passes)

    def _about(self, model: PreparedModel) -> dict[str, Any]:
        from ..harness.models import identity

        with Image.open(self.picture) as image:
            width, height = image.size
        return {
            "case": {
                "image_size": self.image_size,
                "device": model.device,
                "width": width,
                "height": height,
                "classes": list(self.classes),
                "passes": self.passes,
            },
            "model": identity(self.name, model),
            "machine": machine(model.device),
            "command": command_line(),
        }


@contextmanager
def work_folder(work: Path | None) -> Iterator[Path]:
    """Folder for checkpoints, exports and what is built of them.

    Args:
        work: that was named; None for one that goes.
    """
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def work_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--work`: what is made is kept."""
    return click.option(
        "--work",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder where the checkpoint, its export and what is built of it are kept for the"
        " next run; by default they go.",
    )(function)


def model_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--model`: what is measured."""
    return click.option(
        "--model",
        default="random:blip-large",
        show_default=True,
        help="random:blip-tiny, -base or -large (that shape, random weights: time does not depend"
        " on them), or a checkpoint as for `pnp-ovss export`.",
    )(function)


def case_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a `Case`; see `case_of`."""
    samples = Path(__file__).parents[2] / "engine" / "data" / "samples"
    options = [
        model_option,
        click.option("--image-size", default=336, show_default=True, type=click.IntRange(1)),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="cpu or cuda:N; auto measures the CPU, and then the first GPU if there is one.",
        ),
        click.option(
            "--picture",
            default=samples / "beach.jpg",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="A file; by default a sample of 640x480 pixels.",
        ),
        click.option(
            "--classes",
            default="person,boat,umbrella",
            show_default=True,
            help="Names, separated by commas.",
        ),
        click.option("--passes", default=4, show_default=True, type=click.IntRange(1), help="K."),
        work_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


def case_of(options: dict[str, Any], *, quick: bool = False) -> Case:
    """The case that options say; `quick` takes a smaller model where none was named.

    Raises:
        InputError: the picture cannot be read.
        ModelError: there is no such shape.
    """
    from ..harness.models import check_name

    load_rgb(options["picture"])

    name = QUICK_MODEL if quick and is_default("model") else options["model"]
    check_name(name)
    return Case(
        name=name,
        device=options["device"],
        image_size=QUICK_SIZE if quick and is_default("image_size") else options["image_size"],
        picture=options["picture"],
        classes=tuple(filter(None, (name.strip() for name in options["classes"].split(",")))),
        passes=options["passes"],
        work=options["work"],
    )


def is_default(option: str) -> bool:
    """Tell whether an option of the command that runs was left out."""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.DEFAULT


def chosen(given: Sequence[str], known: Sequence[str]) -> list[str]:
    """Contenders that were named, or all.

    Raises:
        click.UsageError: there is no such one.
    """
    unknown = set(given) - set(known)
    if unknown:
        raise click.UsageError(f"no contender {min(unknown)!r}; there are: {', '.join(known)}")
    return list(given or known)


def contender_options(
    name: str, *, rounds: int, all_of_them: str, timed: bool = False
) -> Callable[..., Any]:
    """Add the options of `measure_contenders`.

    Args:
        name: of the command.
        rounds: by default.
        all_of_them: which contenders are measured by default, in words.
        timed: as for `rounds_option`.
    """
    options = [
        case_options,
        click.option(
            "--contender",
            "names",
            multiple=True,
            help=f"Repeatable; by default {all_of_them}.",
        ),
        rounds_option(rounds, timed=timed),
        json_option,
        output_option(name),
    ]

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def measure_contenders(
    name: str, measure: Callable[..., Iterable[Any]], known: Sequence[str], options: dict[str, Any]
) -> int:
    """Measure the contenders that `contender_options` say; record and show it; the exit code.

    Args:
        name: of the command.
        measure: takes the model, the task and the contenders' names.
        known: contenders there are.
        options: of the command.
    """
    case, say = case_of(options), say_with_time()
    contenders = chosen(options["names"], known)
    rows = case.measured(
        lambda model, about: measure(
            model, case.task, contenders, rounds=options["rounds"], about=about, say=say
        ),
        say,
    )
    return write_contenders(rows, name, options["output"], options["json_file"])
