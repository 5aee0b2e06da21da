"""`pnp-ovss segment`: label maps, overlays and reports of pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import BAD_INPUT, DONE, complain, printable, progress, say

if TYPE_CHECKING:
    from ..segmenter import Segmenter
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


@click.command("segment")
@click.argument(
    "pictures", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(readable=False)
)
@click.option(
    "-c",
    "--classes",
    multiple=True,
    metavar="NAMES",
    help="What to look for, separated by commas: --classes 'cat,potted plant'. Repeatable.",
)
@click.option(
    "--classes-file",
    type=click.Path(path_type=Path),
    help="A text file with one name a line.",
)
@click.option(
    "-m",
    "--model",
    default="demo",
    show_default=True,
    help="A model folder, a hub id (exported on first use), or 'demo'.",
)
@click.option(
    "-o",
    "--output",
    default="segmentation",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for <stem>.png (labels), <stem>.overlay.png and <stem>.json.",
)
@click.option(
    "--present",
    type=click.Choice(["given", "match"]),
    default="given",
    show_default=True,
    help="Take every class to be in the picture, or first drop those that do not match it.",
)
@settings_options
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True)
@click.option("--backend", default="auto", show_default=True, help="auto or onnxruntime.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print the reports on standard output.")
def command(
    pictures: Sequence[str],
    classes: Sequence[str],
    classes_file: Path | None,
    model: str,
    output: Path,
    present: str,
    preset: str | None,
    batch_size: int,
    backend: str,
    device: str,
    as_json: bool,
    **given: Any,
) -> int:
    r"""Segment pictures into named classes.

    \b
    pnp-ovss segment street.jpg --classes "car,traffic light,tree" -o out
    pnp-ovss segment *.jpg --classes-file names.txt --present match \
        --model Salesforce/blip-itm-large-flickr
    """
    from ..caption import clean_names
    from ..segmenter import Segmenter

    names = clean_names(_names(classes, classes_file))
    paths = [Path(picture) for picture in pictures]
    _check_outputs(paths, output)
    _ensure_exported(model)
    with Segmenter.load(model, backend=backend, device=device) as segmenter:
        settings = choose_settings(segmenter.settings, preset, given)
        segmenter.check_classes(names, settings)
        warn_if_untrained(segmenter)
        jobs = [(path, names) for path in paths]
        reports, failed = run(
            segmenter, jobs, output, settings, present=present, batch_size=batch_size
        )
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            say(report["files"]["overlay"])
    return BAD_INPUT if failed else DONE


def run(
    segmenter: Segmenter,
    jobs: Sequence[tuple[Path, Sequence[str]]],
    output: Path,
    settings: Settings,
    *,
    present: Any = "given",
    batch_size: int = 4,
) -> tuple[list[dict[str, Any]], int]:
    """Segment pictures and write their files; a picture that fails fails alone.

    Returns:
        The reports of the pictures that were done, and how many failed.

    Raises:
        OutputError: the folder cannot be written to.
    """
    from ..errors import OutputError, PnpOvssError
    from ..images import load_rgb
    from ..output import check_folder, report, save

    results = segmenter.stream(
        jobs, batch_size=batch_size, settings=settings, present=present, errors="return"
    )
    check_folder(output)
    reports: list[dict[str, Any]] = []
    failed = 0
    for (path, _), result in zip(jobs, _progress(results, len(jobs)), strict=True):
        if isinstance(result, PnpOvssError):
            complain(result.cause, result.cure)
            failed += 1
            continue
        record = report(result, printable(str(path)), settings, segmenter.model)
        try:
            files = save(result, load_rgb(path), record, output, path.stem)
        except OutputError as error:
            complain(f"{path}: {error.cause}", error.cure)
            failed += 1
            continue
        written = {kind: printable(str(file)) for kind, file in files.items()}
        reports.append({**record, "files": written})
    return reports, failed


def warn_if_untrained(segmenter: Segmenter) -> None:
    """Say so where masks mean nothing."""
    if not segmenter.model.manifest.trained:
        complain("note: this model has random weights, so its masks mean nothing")


def print_json(value: object) -> None:
    """A value as indented JSON on standard output."""
    import msgspec

    say(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _names(classes: Sequence[str], file: Path | None) -> list[str]:
    from ..errors import InputError

    names = [name for group in classes for name in group.split(",")]
    if file:
        try:
            names += [
                line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()
            ]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"'{file}' cannot be read: {error}", "give a UTF-8 text file"
            ) from error
    return names


def _check_outputs(paths: Sequence[Path], output: Path) -> None:
    """No two pictures may write the same files, and no picture may be overwritten."""
    from ..errors import InputError
    from ..output import paths as outputs

    written: dict[str, Path] = {}
    for path in paths:
        for target in outputs(output, path.stem).values():
            other = written.setdefault(os.path.realpath(target), path)
            if other is not path:
                raise InputError(
                    f"'{other}' and '{path}' would both be written to '{target}'",
                    "segment them into different folders with --output",
                )
    taken = {os.path.realpath(path) for path in paths}
    for path in paths:
        files = outputs(output, path.stem)
        foreign = files["labels"].exists() and not files["report"].exists()
        for target in files.values():
            if os.path.realpath(target) in taken or (foreign and target == files["labels"]):
                raise InputError(
                    f"the results of '{path}' would overwrite the picture '{target}'",
                    "choose another folder with --output",
                )


def _ensure_exported(model: str) -> None:
    """Export a hub id into the user's cache on first use."""
    from .. import artifact
    from ..errors import ModelError

    if not artifact.is_hub_id(model):
        return
    folder = artifact.cache_folder(model)
    if folder.exists():
        return
    try:
        from ...export import export
    except ImportError as error:
        raise ModelError(
            f"{model!r} has not been exported here yet, and that needs PyTorch: {error}",
            "pip install 'pnp-ovss[export]'",
        ) from error
    export(model, folder, say=progress)


def _progress(results: Iterator[Any], length: int) -> Iterator[Any]:
    """A bar on standard error; nothing where that is no terminal."""
    import sys

    with click.progressbar(
        results, length=length, label="segmenting", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        yield from bar
