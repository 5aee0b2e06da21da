"""Runs the command line of `python -m benchmarks.demo_model`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from pnp_ovss.engine.evaluation.datasets.stickers import atlas, scenes


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Make the demo model, which is trained on sticker scenes.

    Needs the extras `evaluate` and `export`. Run in this order: train, grid-search, export,
    samples.
    """


@cli.command("train")
@click.option(
    "--folder",
    default=".stickers",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the checkpoint and the log of the training.",
)
def _train(folder: Path) -> None:
    """Train the model; run again to resume an interrupted training.

    The trained weights are written to benchmarks/demo_model/sticker-blip.
    """
    from . import recipe, train

    recipe.keep(train.train(folder), folder / train.LOG_FILE)


@cli.command("export")
def _export() -> None:
    """Export benchmarks/demo_model/sticker-blip as the demo model of the package."""
    from . import recipe

    recipe.export_demo()


@cli.command("grid-search")
@click.option("--images", default=200, show_default=True, help="Number of scenes to judge by.")
def _grid_search(images: int) -> None:
    """Search for the layers, heads and settings of the model with the highest mIoU."""
    from . import grid_search

    for line in grid_search.tune(images):
        click.echo(line)


@cli.command("curve")
@click.option(
    "--log",
    default=None,
    type=click.Path(path_type=Path),
    help="Log of a training; by default that of the shipped model.",
)
@click.option("-o", "--output", default="curve.png", show_default=True, help="PNG file.")
def _curve(log: Path | None, output: str) -> None:
    """Draw the losses and the accuracy of a training."""
    from . import curve, recipe, train

    curve.draw(log or recipe.CHECKPOINT / train.LOG_FILE, Path(output))


@cli.command("samples")
def _samples() -> None:
    """Make the images that `pnp-ovss demo` shows."""
    from . import samples

    samples.make()


@cli.command("preview")
@click.argument("kind", type=click.Choice(get_args(scenes.Kind)))
@click.option("--seed", default=0, show_default=True, help="Seed of the scenes.")
@click.option("-o", "--output", default="preview.png", show_default=True, help="PNG file.")
def _preview(kind: scenes.Kind, seed: int, output: str) -> None:
    """Draw a sheet of 24 scenes of a kind."""
    from PIL import Image

    side, columns, rows = scenes.SIDE + 8, 6, 4
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for index in range(columns * rows):
        corner = (index % columns * side + 4, index // columns * side + 4)
        sheet.paste(scenes.scene(kind, seed, index).image, corner)
    sheet.save(output)


@cli.command("atlas")
@click.option(
    "--font",
    default=atlas.FONT,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Font file with the emoji (Debian: fonts-noto-color-emoji).",
)
def _atlas(font: Path) -> None:
    """Draw the stickers from the emoji of a font."""
    atlas.render(font)


if __name__ == "__main__":
    cli()
