"""Defines the options that subcommands share."""

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
    """Make the option `-o`, the folder of a command's results."""
    return click.option(
        "-o",
        "--output",
        default=RESULTS / name,
        type=click.Path(file_okay=False, path_type=Path),
        help=f"Folder for {name}.jsonl, {name}.md and any plot; by default"
        f" benchmarks/results/{name}.",
    )


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--json`, a file for the rows alone."""
    return click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File for the rows, a line of JSON each; no tables are written.",
    )(function)


def rounds_option(default: int, *, timed: bool = True) -> Callable[..., Any]:
    """Make the option `--rounds`, the turns of each contender.

    Args:
        default: Number of rounds by default.
        timed: Whether `harness.timing` counts the rounds, which then may be more.
    """
    more = "; where runs take milliseconds, up to ten times as many" if timed else ""
    return click.option(
        "--rounds",
        default=default,
        show_default=True,
        type=click.IntRange(1),
        help=f"Turns of each contender{more}.",
    )


def say_with_time() -> Callable[[str], None]:
    """Make a function that prints a line to standard error, with the seconds since this call."""
    began = time.monotonic()
    return lambda text: click.echo(f"{time.monotonic() - began:6.0f} s  {text}", err=True)


@dataclass(frozen=True)
class Case:
    """Stores what a command measures: model, image, device and settings.

    Attributes:
        name: Name of the model; see `models.prepare`.
        image_size: Side of the model's square input, in pixels.
        device: Device, "cpu" or "cuda:N"; "auto" for all usable devices, the CPU first.
        image: File of the image.
        classes: Class names to segment.
        passes: Number K of passes.
        work: Folder for what is made; see `work_folder`.
    """

    name: str
    image_size: int
    device: str
    image: Path
    classes: tuple[str, ...]
    passes: int
    work: Path | None

    def measured(
        self,
        measure: Callable[[PreparedModel, dict[str, Any]], Iterable[AnyRow]],
        say: Callable[[str], None],
    ) -> Iterator[AnyRow]:
        """Measure the rows of each device.

        Args:
            measure: Function that yields the rows of a model. Its second argument is the fields
                that every row repeats: case, model, machine and command.
            say: Function that is called with a line of text at each step.

        Raises:
            BackendError: The device is missing or cannot be used.
            ModelError: The shape is unknown, or the checkpoint cannot be read or exported.
        """
        from ..harness.models import prepare

        devices = usable_devices()[::-1] if self.device == "auto" else [open_device(self.device)]
        with work_folder(self.work) as folder:
            for device in devices:
                model = prepare(
                    self.name,
                    image_size=self.image_size,
                    device=device.name,
                    folder=folder,
                    say=say,
                )
                yield from measure(model, self._about(model))

    @property
    def task(self) -> Task:
        """Return the task of the contenders."""
        return Task(self.image, self.classes, self.passes)

    def _about(self, model: PreparedModel) -> dict[str, Any]:
        from ..harness.models import identity

        with Image.open(self.image) as image:
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
    """Open a folder for checkpoints, exports and builds.

    Args:
        work: Folder, made if it is missing; None for a temporary folder, deleted at the end.
    """
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def work_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--work`, a folder that the next run uses again."""
    return click.option(
        "--work",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for the checkpoint, its export and builds, which the next run uses again; by"
        " default they are deleted.",
    )(function)


def model_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--model`, the model to measure."""
    return click.option(
        "--model",
        default="random:blip-large",
        show_default=True,
        help="Model to measure: random:blip-tiny, random:blip-base or random:blip-large (that"
        " shape, random weights), or a checkpoint that `pnp-ovss export` takes.",
    )(function)


def case_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a `Case`; see `case_of`."""
    samples = Path(__file__).parents[2] / "engine" / "data" / "samples"
    options = [
        model_option,
        click.option(
            "--image-size",
            default=336,
            show_default=True,
            type=click.IntRange(1),
            help="Side of the model's input, in pixels.",
        ),
        click.option(
            "--device",
            default="auto",
            show_default=True,
            help="Device: cpu or cuda:N; auto measures the CPU, and then the first usable GPU.",
        ),
        click.option(
            "--image",
            default=samples / "beach.jpg",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Image file; by default a sample of 640x480 pixels.",
        ),
        click.option(
            "--classes",
            default="person,boat,umbrella",
            show_default=True,
            help="Class names, separated by commas.",
        ),
        click.option(
            "--passes",
            default=4,
            show_default=True,
            type=click.IntRange(1),
            help="Number K of passes.",
        ),
        work_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


def case_of(options: dict[str, Any], *, quick: bool = False) -> Case:
    """Make the case of a command's options.

    Args:
        options: Values of `case_options`, by name.
        quick: Whether a smaller model and input replace the defaults.

    Raises:
        InputError: The image cannot be read.
        ModelError: The shape of the model is unknown.
    """
    from ..harness.models import check_name

    load_rgb(options["image"])

    name = QUICK_MODEL if quick and is_default("model") else options["model"]
    check_name(name)
    return Case(
        name=name,
        device=options["device"],
        image_size=QUICK_SIZE if quick and is_default("image_size") else options["image_size"],
        image=options["image"],
        classes=tuple(filter(None, (name.strip() for name in options["classes"].split(",")))),
        passes=options["passes"],
        work=options["work"],
    )


def is_default(option: str) -> bool:
    """Tell whether an option of the running command has its default value."""
    source = click.get_current_context().get_parameter_source(option)
    return source is click.core.ParameterSource.DEFAULT


def chosen(named: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the contenders that the user named, or else all.

    Args:
        named: Names that the user gave.
        known: Names of all contenders of the command.

    Raises:
        click.UsageError: A name is unknown.
    """
    unknown = set(named) - set(known)
    if unknown:
        raise click.UsageError(
            f"unknown contender {min(unknown)!r}; take one of {', '.join(known)}"
        )
    return list(named or known)


def contender_options(
    name: str, *, rounds: int, default_contenders: str, timed: bool = False
) -> Callable[..., Any]:
    """Make a decorator that adds the options of `measure_contenders`.

    Args:
        name: Name of the command.
        rounds: Number of rounds by default.
        default_contenders: Phrase that names the contenders that are measured by default.
        timed: Whether `harness.timing` counts the rounds, which then may be more.
    """
    options = [
        case_options,
        click.option(
            "--contender",
            "names",
            multiple=True,
            help=f"Contender to measure; repeatable. By default {default_contenders}.",
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
    """Measure the contenders that the user named, record and show the rows.

    Args:
        name: Name of the command.
        measure: Function that takes the model, the task and the names of contenders, and yields
            rows.
        known: Names of all contenders of the command.
        options: Values of `contender_options`, by name.

    Returns:
        Exit code of the command: 1 if a contender failed.
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
