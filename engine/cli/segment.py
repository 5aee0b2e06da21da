"""`pnp-ovss segment`: label maps, overlays and reports of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from . import BAD_INPUT, DONE
from .batch import run, warn_if_untrained
from .options import choose_settings, settings_options
from .terminal import print_json, progress, say


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
