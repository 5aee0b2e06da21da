"""`pnp-ovss segment`: label maps, overlays and reports of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import click

from ..errors import InputError
from ..methods.base import Present
from ..model.hub import ensure_exported
from ..paths import absolute, expanded
from ..precision import PrecisionChoice
from ..result.files import is_report
from ..result.files import paths as result_paths
from ..segmenter import Segmenter
from .classes import classes_options, read_classes
from .images import FoundImage, find_images
from .options import choose_settings, placement_options, settings_options
from .placement import tell
from .segment_files import Job, run, warn_if_untrained
from .terminal import print_json, progress, say


@click.command("segment")
@click.argument(
    "images",
    metavar="IMAGE...",
    nargs=-1,
    required=True,
    type=click.Path(readable=False, allow_dash=True),
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
    help="Folder for <stem>.png (labels), <stem>.overlay.png and <stem>.json; in sub-folders for"
    " images that are in sub-folders of an IMAGE, or that have the same stem.",
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

    An IMAGE is a file, a URL, a folder of images with all its sub-folders, a text file (.txt) with
    one of these a line, or - for standard input. Paths start at the working folder.

    \b
    pnp-ovss segment street.jpg --classes "car,traffic light,tree" -o out
    pnp-ovss segment *.jpg --classes-file names.txt --present match --model blip-large

    \b
    pnp-ovss segment photos list.txt https://example.org/cat.jpg --classes cat
    curl -s https://example.org/cat.jpg | pnp-ovss segment - --classes cat
    """  # noqa: D301 - click's mark for lines to be kept
    output = expanded(output)
    names = read_classes(classes, classes_file)
    found = find_images(images, output)
    _check_outputs(found, output)
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
        jobs = [Job(one.image, names, one.name, one.stem) for one in found]
        reports, exit_code = run(
            segmenter,
            jobs,
            output,
            settings,
            present=present,
            batch_size=batch_size,
        )
    if as_json:
        print_json(reports)
        return exit_code
    for report in reports:
        say(report["files"]["overlay"])
    return exit_code


def _check_outputs(images: Sequence[FoundImage], output: Path) -> None:
    """No two images may write the same files, and nothing but earlier results is replaced."""
    written: dict[str, FoundImage] = {}
    places = {one.place for one in images}
    root = os.path.realpath(absolute(output))

    @cache
    def real(path: str) -> str:
        return os.path.realpath(path)

    for one in images:
        if isinstance(one.image, InputError):
            continue
        targets = result_paths((output / one.stem).parent, Path(one.stem).name)
        folder = real(os.path.join(root, os.path.dirname(one.stem)))
        if os.path.commonpath([root, folder]) != root:
            raise InputError(
                f"the results of '{one.name}' would leave '{output}' by the link"
                f" '{targets['report'].parent}'",
                "remove the link, or choose another folder with --output",
            )
        ours = is_report(targets["report"])
        for target in targets.values():
            place = os.path.join(folder, target.name)
            taken = os.path.lexists(place)
            place = os.path.realpath(place) if taken else place
            other = written.setdefault(place, one)
            if other is not one and (other.place or other.name) == (one.place or one.name):
                raise InputError(f"'{one.name}' is named twice", "name each image once")
            if other is not one:
                raise InputError(
                    f"'{other.name}' and '{one.name}' would both be written to '{target}'",
                    "segment them into different folders with --output",
                )
            if place in places or (taken and not ours):
                raise InputError(
                    f"the results of '{one.name}' would overwrite '{target}', which is no result",
                    "choose another folder with --output",
                )
