"""`pnp-ovss segment`: label maps, overlays and reports of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import click

from ..errors import InputError
from ..methods.base import Present
from ..model.hub import ensure_exported
from ..precision import PrecisionChoice
from ..result.files import is_report
from ..result.files import paths as result_paths
from ..segmenter import Segmenter
from .classes import classes_options, read_classes
from .options import choose_settings, placement_options, settings_options
from .placement import tell
from .segment_files import run, warn_if_untrained
from .terminal import print_json, progress, say


@click.command("segment")
@click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(readable=False)
)
@classes_options
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
    type=click.Choice(get_args(Present)),
    default="given",
    show_default=True,
    help="Take every class to be in the image, or first drop those that do not match it.",
)
@settings_options
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Images that go through the model together.",
)
@placement_options
@click.option("--json", "as_json", is_flag=True, help="Print the reports on standard output.")
def command(
    images: Sequence[str],
    classes: Sequence[str],
    classes_file: Path | None,
    model: str,
    output: Path,
    present: Present,
    preset: str | None,
    batch_size: int,
    backend: str,
    device: str,
    precision: PrecisionChoice,
    threads: int | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Segment images into named classes.

    \b
    pnp-ovss segment street.jpg --classes "car,traffic light,tree" -o out
    pnp-ovss segment *.jpg --classes-file names.txt --present match --model blip-large
    """  # noqa: D301 - click's mark for lines to be kept
    output = output.expanduser()
    names = read_classes(classes, classes_file)
    paths = [Path(image) for image in images]
    _check_outputs(paths, output)
    ensure_exported(model, progress)
    with Segmenter.load(
        model,
        backend=backend,
        device=device,
        precision=precision,
        threads=threads,
        fetch_urls=True,
    ) as segmenter:
        settings = choose_settings(segmenter.settings, preset, given)
        segmenter.check_classes(names, settings)
        tell(segmenter.placement)
        warn_if_untrained(segmenter)
        jobs = [(path, names) for path in paths]
        reports, exit_code = run(
            segmenter,
            jobs,
            output,
            settings,
            present=present,
            batch_size=batch_size,
            threads=threads,
        )
    if as_json:
        print_json(reports)
        return exit_code
    for report in reports:
        say(report["files"]["overlay"])
    return exit_code


def _check_outputs(paths: Sequence[Path], folder: Path) -> None:
    """No two images may write the same files, and nothing but earlier results is replaced."""
    written: dict[str, Path] = {}
    images = {os.path.realpath(path) for path in paths}
    for path in paths:
        targets = result_paths(folder, path.stem)
        ours = is_report(targets["report"])
        for target in targets.values():
            place = os.path.realpath(target)
            other = written.setdefault(place, path)
            if os.path.realpath(other) == os.path.realpath(path) and other is not path:
                raise InputError(f"'{path}' is named twice", "name each image once")
            if other is not path:
                raise InputError(
                    f"'{other}' and '{path}' would both be written to '{target}'",
                    "segment them into different folders with --output",
                )
            if place in images or (os.path.lexists(target) and not ours):
                raise InputError(
                    f"the results of '{path}' would overwrite '{target}', which is no result",
                    "choose another folder with --output",
                )
