"""`python -m benchmarks.demo_model`: the demo model, from its pictures to its files."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from pnp_ovss.engine.evaluation.datasets.stickers import atlas, scenes


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Sticker scenes, and the demo model that is trained on them.

    Needs the extras `evaluate` and `export`. In order: train, grid-search, export, samples.
    """


@cli.command("train")
@click.option("--folder", default=".stickers", show_default=True, type=click.Path(path_type=Path))
def _train(folder: Path) -> None:
    """Train the model; start it again to go on after an interruption.

    FOLDER holds the checkpoint and the log. The trained weights are written to
    benchmarks/demo_model/sticker-blip.
    """
    from . import recipe, train

    recipe.keep(train.train(folder), folder / train.LOG_FILE)


@cli.command("export")
def _export() -> None:
    """Export benchmarks/demo_model/sticker-blip as the package's demo model."""
    from . import recipe

    recipe.export_demo()


@cli.command("grid-search")
@click.option("--pictures", default=200, show_default=True, help="Of a seed of their own.")
def _grid_search(pictures: int) -> None:
    """Look for the layers, heads and settings that suit the model."""
    from . import grid_search

    for line in grid_search.tune(pictures):
        click.echo(line)


@cli.command("curve")
@click.option("--log", default=None, type=click.Path(path_type=Path))
@click.option("-o", "--output", default="curve.png", show_default=True)
def _curve(log: Path | None, output: str) -> None:
    """Draw how the training went; by default that of the shipped model."""
    from . import curve, recipe, train

    curve.draw(log or recipe.CHECKPOINT / train.LOG_FILE, Path(output))


@cli.command("samples")
def _samples() -> None:
    """Make the pictures that `pnp-ovss demo` shows."""
    from . import samples

    samples.make()


@cli.command("preview")
@click.argument("kind", type=click.Choice(get_args(scenes.Kind)))
@click.option("--seed", default=0, show_default=True)
@click.option("-o", "--output", default="preview.png", show_default=True)
def _preview(kind: scenes.Kind, seed: int, output: str) -> None:
    """A sheet of scenes."""
    from PIL import Image

    side, columns, rows = scenes.SIDE + 8, 6, 4
    sheet = Image.new("RGB", (columns * side, rows * side), "white")
    for index in range(columns * rows):
        place = (index % columns * side + 4, index // columns * side + 4)
        sheet.paste(scenes.scene(kind, seed, index).image, place)
    sheet.save(output)


@cli.command("atlas")
@click.option("--font", default=atlas.FONT, show_default=True, type=click.Path(path_type=Path))
def _atlas(font: Path) -> None:
    """Draw the emoji anew (Debian: fonts-noto-color-emoji)."""
    atlas.render(font)


if __name__ == "__main__":
    cli()
