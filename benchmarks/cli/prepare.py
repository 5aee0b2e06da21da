"""`prepare`: what the other commands would make first."""

from __future__ import annotations

from pathlib import Path

import click

from .options import model_option, say_with_time, work_folder


@click.command("prepare")
@model_option
@click.option("--image-size", default=336, show_default=True, type=click.IntRange(1))
@click.option(
    "--work",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for both, as for the other commands' --work; what is there stays.",
)
def command(model: str, image_size: int, work: Path) -> None:
    """Make a checkpoint and its export, and print the model folder's path.

    What `pnp-ovss build` builds of that folder, the other commands find with the same --work.
    """
    from ..harness import models

    models.check_name(model)
    with work_folder(work) as folder:
        made = models.prepare(
            model, image_size=image_size, device="cpu", folder=folder, say=say_with_time()
        )
    click.echo(made.folder)
