"""Implements `pnp-ovss export`, which exports a checkpoint to a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from ...engine.cli.terminal import print_json, progress, say
from ...engine.errors import BackendError
from ...engine.model.manifest import Weights


class _Selection(click.ParamType):
    """Indices separated by commas, or "all"."""

    name = "N[,N...]|all"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...] | str:
        """Convert the text of an option to indices, or "all"."""
        if not isinstance(value, str) or value == "all":
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is neither 'all' nor numbers such as 7 or 0,1", param, ctx)


@click.command("export")
@click.argument("checkpoint")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Model folder to write."
)
@click.option(
    "--image-size",
    type=click.IntRange(1),
    default=336,
    show_default=True,
    help="Side of the model's input in pixels, a multiple of the patch size.",
)
@click.option(
    "--layer",
    type=_Selection(),
    metavar="N[,N...]|all",
    help="Cross-attention layers whose salience is averaged, counted from 0; the last layer has no"
    " salience.  [default: BLIP-large's best layer, or the same relative position]",
)
@click.option(
    "--head",
    type=_Selection(),
    metavar="N[,N...]|all",
    help="Attention heads whose salience is averaged, counted from 0.  [default: BLIP-large's best"
    " head, or the same relative position]",
)
@click.option(
    "--all-heads", is_flag=True, help="Export the map of every layer and head, for tuning."
)
@click.option(
    "--weights",
    type=click.Choice(get_args(Weights)),
    default="float32",
    show_default=True,
    help="Type of the stored weights; float16 halves the folder. All arithmetic is in float32.",
)
@click.option("--revision", help="Branch, tag or commit of the hub id.")
@click.option(
    "--tokenizer",
    type=click.Path(exists=True, path_type=Path),
    help="File tokenizer.json or vocab.txt that replaces the checkpoint's tokenizer.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing model folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest on standard output.")
def command(checkpoint: str, output: Path, as_json: bool, **options: Any) -> None:
    """Export CHECKPOINT to a model folder, and compare its graphs with PyTorch.

    CHECKPOINT is a hub id (Salesforce/blip-itm-large-flickr, ...), a Hugging Face folder, or an
    original BLIP file (model_large_retrieval_flickr.pth).
    """
    try:
        from .. import export
    except ImportError as error:
        raise BackendError(
            f"exporting needs PyTorch, Transformers and ONNX: {error}",
            "pip install 'pnp-ovss[export]'",
        ) from error
    manifest = export(checkpoint, output, say=progress, **options)
    if as_json:
        print_json(manifest)
    else:
        say(f"{output}  (within {max(manifest.export_error.values()):.0e} of PyTorch)")
