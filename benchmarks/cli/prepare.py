"""Runs `prepare`, which makes the models that the other commands measure."""

from __future__ import annotations

from pathlib import Path

import click

from .options import model_option, say_with_time, work_folder


@click.command("prepare")
@model_option
@click.option(
    "--image-size",
    default=336,
    show_default=True,
    type=click.IntRange(1),
    help="Side of the model's input, in pixels.",
)
@click.option(
    "--work",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for both; give it to other commands as --work. Existing files remain.",
)
def command(model: str, image_size: int, work: Path) -> None:
    """Make a checkpoint and its export, and print the path of the model folder.

    Other commands with the same --work use both, and the builds that `pnp-ovss build` makes of that
    model folder.
    """
    from ..harness import models

    models.check_name(model)
    with work_folder(work) as folder:
        prepared = models.prepare(
            model, image_size=image_size, device="cpu", folder=folder, say=say_with_time()
        )
    click.echo(prepared.folder)
