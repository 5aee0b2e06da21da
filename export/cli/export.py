"""`pnp-ovss export`: checkpoint to model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from ...engine.cli.terminal import print_json, progress, say
from ...engine.errors import BackendError
from ...engine.model.manifest import Weights


class _Selection(click.ParamType):
    name = "N[,N...]|all"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...] | str:
        if not isinstance(value, str) or value == "all":
            return value
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is neither 'all' nor numbers such as 7 or 0,1", param, ctx)


@click.command("export")
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="New folder.")
@click.option(
    "--image-size",
    type=click.IntRange(1),
    default=336,
    show_default=True,
    help="Side of the model's input in pixels; a multiple of the patch size.",
)
@click.option(
    "--layer",
    type=_Selection(),
    metavar="N[,N...]|all",
    help="Cross-attention layers to read, from 0; several are averaged. The last has no salience."
    "  [default: BLIP-large's best, or the same relative place]",
)
@click.option(
    "--head",
    type=_Selection(),
    metavar="N[,N...]|all",
    help="Heads to read, likewise.  [default: as for --layer]",
)
@click.option("--all-heads", is_flag=True, help="Keep every map apart, for tuning.")
@click.option(
    "--weights",
    type=click.Choice(get_args(Weights)),
    default="float32",
    show_default=True,
    help="How weights are stored; float16 halves the folder. All arithmetic is in float32.",
)
@click.option("--revision", help="Branch, tag or commit of a hub id.")
@click.option(
    "--tokenizer",
    type=click.Path(exists=True, path_type=Path),
    help="tokenizer.json or vocab.txt, in place of the checkpoint's own.",
)
@click.option("--overwrite", is_flag=True, help="Replace a model folder that is already there.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest on standard output.")
def command(checkpoint: str, output: Path, as_json: bool, **options: Any) -> None:
    """Export CHECKPOINT for the engine, and compare the result with PyTorch.

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
