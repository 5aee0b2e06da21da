"""Implements `pnp-ovss export`, which writes model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
from click.core import ParameterSource

from ...engine.cli.terminal import print_json, progress, say
from ...engine.errors import BackendError, ModelError
from ...engine.model.folder import (
    DEMO,
    HIDDEN,
    cache_folder,
    find_model,
    hides_a_folder,
    is_hub_id,
    read_manifest,
)
from ...engine.model.manifest import MANIFEST, Manifest, Weights
from ...engine.settings import Settings
from . import fused as fused_graph
from . import triton

_OF_CHECKPOINT = {
    "image_size",
    "layer",
    "head",
    "all_heads",
    "weights",
    "revision",
    "tokenizer",
}
"""Names of the options that say how a checkpoint is exported."""


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
@click.argument("model")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Model folder to write.  [required for a checkpoint]",
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
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace an existing model folder, its fused graph, or a repository of --triton.",
)
@fused_graph.fused_options
@triton.triton_option
@click.option("--json", "as_json", is_flag=True, help="Print the manifest on standard output.")
def command(
    model: str,
    output: Path | None,
    overwrite: bool,
    fused: bool,
    repository: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Export a checkpoint to a model folder, and compare it with PyTorch.

    MODEL is a hub id (Salesforce/blip-itm-large-flickr, ...), a Hugging Face folder, or an original
    BLIP file (model_large_retrieval_flickr.pth).

    With --fused or --triton, MODEL may also be a model folder, a hub id exported before, or 'demo'.
    With --fused the fused graph is added to it, or to a copy at -o. That needs no PyTorch.

    \b
    pnp-ovss export Salesforce/blip-itm-large-flickr -o blip-large --fused
    pnp-ovss export blip-large --fused --classes "cat,potted plant" --output-size 480x640
    """  # noqa: D301 - click's mark for lines to be kept
    context = click.get_current_context()
    given = [name for name in options if _is_given(context, name)]
    of_fused = {name: value for name, value in options.items() if name in fused_graph.OPTIONS}
    of_checkpoint = {name: options[name] for name in sorted(_OF_CHECKPOINT)}
    alone = [name for name in given if name in of_fused and not (fused or repository)]
    if alone:
        raise click.UsageError(f"{_option(alone[0])} is an option of --fused or --triton", context)
    if options["all_heads"] and (fused or repository):
        which = "--fused" if fused else "--triton"
        raise click.UsageError(f"--all-heads and {which} exclude each other", context)
    _check_place(model, for_hosts=fused or repository is not None)
    if repository:
        if output and output.absolute() == repository.absolute():
            raise click.UsageError(f"-o and --triton are one folder, '{output}'", context)
        triton.check(repository, of_fused, overwrite)
    for_checkpoint = [name for name in given if name in of_checkpoint]
    if (fused or repository) and _is_exported(model, for_checkpoint):
        if for_checkpoint:
            raise click.UsageError(
                f"{_option(for_checkpoint[0])} is for a checkpoint, and '{model}' was exported"
                " before",
                context,
            )
        if hides_a_folder(model):
            progress(f"note: {HIDDEN}")
        folder = find_model(model)
        if fused:
            manifest = _add_fused(folder, output, overwrite, of_fused)
            folder = output or folder
            told = [folder / manifest.graphs["segment"].file]
        elif output:
            raise click.UsageError("-o is for a checkpoint, or for --fused", context)
        else:
            manifest, told = read_manifest(folder), []
    elif output is None:
        (parameter,) = (one for one in context.command.params if one.name == "output")
        raise click.MissingParameter(ctx=context, param=parameter)
    else:
        manifest = _export(model, output, overwrite, of_checkpoint, of_fused if fused else None)
        told = [f"{output}  (within {max(manifest.export_error.values()):.0e} of PyTorch)"]
        folder = output
    if repository:
        told += triton.write(folder, repository, of_fused, overwrite)
    if as_json:
        print_json(manifest)
    else:
        for line in told:
            say(str(line))


def _export(
    model: str,
    output: Path,
    overwrite: bool,
    options: dict[str, Any],
    of_fused: dict[str, Any] | None,
) -> Manifest:
    """Export a checkpoint.

    Raises:
        BackendError: a package is missing.
    """
    try:
        from .. import export

        fused = fused_graph.read_fused(Settings(), **of_fused) if of_fused is not None else None
    except ImportError as error:
        raise BackendError(
            f"exporting needs PyTorch, Transformers and ONNX: {error}",
            "pip install 'pnp-ovss[export]'",
        ) from error
    return export(model, output, fused=fused, overwrite=overwrite, say=progress, **options)


def _add_fused(
    folder: Path, output: Path | None, overwrite: bool, of_fused: dict[str, Any]
) -> Manifest:
    """Add a fused graph to a model folder, or to a copy of it.

    Raises:
        BackendError: a package is missing.
    """
    with fused_graph.writing_onnx():
        from ..fused.write import add_fused, copy_with_fused

        fused = fused_graph.read_fused(read_manifest(folder).settings, **of_fused)
    if output is None:
        return add_fused(folder, fused, overwrite=overwrite, say=progress)
    return copy_with_fused(folder, output, fused, overwrite=overwrite, say=progress)


def _check_place(model: str, *, for_hosts: bool) -> None:
    """Refuse, before PyTorch is imported, a name with nothing behind it, and an exported model.

    Args:
        model: what is to be exported.
        for_hosts: whether a model that was exported before may be meant.

    Raises:
        ModelError: nothing can be made of it.
    """
    path = Path(model).expanduser()
    if not for_hosts and _is_model(model):
        raise ModelError(
            f"'{model}' is a model that was exported before",
            "add --fused or --triton DIR to make more of it, or give a checkpoint",
        )
    if model != DEMO and not is_hub_id(model) and not path.exists():
        raise ModelError(
            f"no checkpoint and no model folder at '{model}': no such file or folder",
            "give a hub id such as Salesforce/blip-itm-large-flickr, a folder, or a file",
        )


def _is_exported(model: str, for_checkpoint: list[str]) -> bool:
    """Tell whether a name is that of a model folder; a hub id may also be exported once more."""
    if is_hub_id(model):
        return not for_checkpoint and cache_folder(model).exists()
    return _is_model(model)


def _is_model(model: str) -> bool:
    """Tell whether a name is 'demo', or the path of a model folder."""
    return model == DEMO or (Path(model).expanduser() / MANIFEST).is_file()


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
