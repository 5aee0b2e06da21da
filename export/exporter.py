"""Exports a checkpoint to a model folder, which appears only after its graphs were checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from ..engine.errors import ModelError
from ..engine.inputs.text import Captioner
from ..engine.methods.pnp_ovss.fused import caption_inputs
from ..engine.model.folder import record_of, write_manifest
from ..engine.model.manifest import SCHEMA_VERSION, TOKENIZER, Manifest, Weights
from ..engine.model.manifest import Checkpoint as Origin
from ..engine.model.signature import Graph
from ..engine.paths import absolute, expanded
from ..engine.settings import Settings
from . import validate
from .fused import Fused, add_fused
from .graphs import builder
from .graphs.transposes import store_transposes
from .models.base import Checkpoint, Choice, Family, FamilyGraph
from .models.registry import family_of
from .models.source import find_checkpoint
from .output import atomic_folder, check_target

FOLDER = "onnx"  # folder of the graphs, in the model folder
DEFAULT_IMAGE_SIZE = 336
ALL = "all"
_LAST_IS_EMPTY = (
    "the last has no salience for class names, as the match is read off the first token"
)
Selection = tuple[int, ...] | str | None  # indices, "all", or None for the default


def export(
    checkpoint: str,
    output: Path,
    *,
    image_size: int = DEFAULT_IMAGE_SIZE,
    layer: Selection = None,
    head: Selection = None,
    all_heads: bool = False,
    revision: str | None = None,
    tokenizer: Path | None = None,
    settings: Settings | None = None,
    weights: Weights = "float32",
    classes: tuple[str, ...] = (),
    trained: bool = True,
    fused: Fused | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Export a checkpoint, compare its graphs with PyTorch, and write the model folder.

    Args:
        checkpoint: hub id, Hugging Face folder, or file of weights (`.pth`).
        output: path of the new model folder, which appears complete or not at all.
        image_size: side of the model's input in pixels, a multiple of the patch size.
        layer: cross-attention layers whose salience is averaged, counted from 0. The last layer has
            no salience for class names: it is refused, and "all" leaves it out.
        head: attention heads whose salience is averaged, counted from 0.
        all_heads: whether the salience graph returns the map of every layer and head, for tuning,
            instead of their average.
        revision: branch, tag or commit of a hub id.
        tokenizer: file or folder of a tokenizer that replaces the checkpoint's tokenizer.
        settings: settings that the manifest recommends.
        weights: dtype of the stored weights; "float16" halves the folder. All arithmetic is in
            float32. The graphs are compared with PyTorch on weights rounded the same way.
        classes: class names that the model was trained on, if it knows no others.
        trained: whether the weights are trained; false for random weights, of which `demo` warns.
        fused: what is fixed in a fused graph, which is written too; None writes none.
        overwrite: whether an existing model folder is replaced.
        say: function that is called with a message at each step.

    Returns:
        The manifest of the model folder.

    Raises:
        ModelError: the checkpoint cannot be used, or float32 is not enough for the model.
        InputError: the fused graph cannot have its settings, size or classes.
        ExecutionError: a graph's error is above its tolerance.
        OutputError: the folder exists, or cannot be written.
    """
    if weights not in get_args(Weights):
        raise ModelError(f"weights is {weights!r}", "give 'float32' or 'float16'")
    if fused and all_heads:
        raise ModelError(
            "a model exported with all_heads, for tuning, has no fused graph",
            "give layer and head: --layer 7 --head 9",
        )
    output = absolute(expanded(output))
    check_target(output, overwrite)
    say(f"loading {checkpoint}")
    family, source, origin = _load(checkpoint, revision, tokenizer)
    for note in source.notes:
        say(f"note: {note}")
    model = source.model.requires_grad_(False)
    family.resize(model, (image_size, image_size))
    text = family.text(source)
    captioner = Captioner(source.tokenizer, text, [name.lower() for name in classes])
    if fused and fused.classes:  # refused before the graphs are written
        caption_inputs(captioner, [fused.classes], fused.settings)
    choice = _choose(family, model, layer, head, all_heads, say)
    if weights == "float16":
        _round(model)

    with atomic_folder(output) as work:
        graphs, files = _write_graphs(family.graphs(model, choice), work, say)
        (work / TOKENIZER).write_text(source.tokenizer.to_str(), encoding="utf-8")
        say("comparing with PyTorch in float64")
        onnx = {name: work / graph.file for name, graph in graphs.items()}
        accuracy = validate.accuracy(family, model.float(), onnx, choice)
        outputs = [f"{name}.{key}" for name, graph in graphs.items() for key in graph.outputs]
        validate.require_accurate(accuracy, outputs)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            software_version=version("pnp-ovss"),
            checkpoint=origin,
            method=family.method,
            family=family.name,
            preprocess=family.preprocess(model),
            text=text,
            graphs=graphs,
            layer=_int_or_list(choice.layers),
            head=_int_or_list(choice.heads),
            layer_known=choice.known,
            all_heads=all_heads,
            dtype="float32",
            weights=weights,
            export_error={name: output.graph for name, output in accuracy.items()},
            settings=settings or Settings(),
            files={
                file.relative_to(work).as_posix(): record_of(file)
                for file in (*files, work / TOKENIZER)
            },
            trained=trained,
            classes=[name.lower() for name in classes],
        )
        write_manifest(manifest, work)
        if fused:
            manifest = add_fused(work, fused, say=say)
    return manifest


def _load(
    checkpoint: str, revision: str | None, tokenizer: Path | None
) -> tuple[Family, Checkpoint, Origin]:
    """Load a checkpoint; return its family, the checkpoint, and its origin for the manifest."""
    files, origin = find_checkpoint(checkpoint, revision)
    family = family_of(files)
    return family, family.load(files, tokenizer), origin


def _write_graphs(
    graphs: Mapping[str, FamilyGraph], work: Path, say: Callable[[str], None]
) -> tuple[dict[str, Graph], list[Path]]:
    """Write graphs into a folder; return their records in the manifest, and the files written."""
    (work / FOLDER).mkdir()
    records: dict[str, Graph] = {}
    files: list[Path] = []
    for name, graph in graphs.items():
        say(f"writing the graph {name}")
        path = work / FOLDER / f"{name}.onnx"
        store_transposes(graph.model)
        if graph.shares is None:
            written = builder.save(graph.model, path)
            weights = written[-1].relative_to(work).as_posix()
        else:
            written = builder.save_sharing(graph.model, path, work / records[graph.shares].file)
            weights = records[graph.shares].weights
        files += written
        records[name] = graph.record(path.relative_to(work).as_posix(), weights)
    return records, files


def _choose(
    family: Family,
    model: Any,
    layer: Selection,
    head: Selection,
    all_heads: bool,
    say: Callable[[str], None],
) -> Choice:
    """Return the chosen cross-attention layers and heads; by default the family's best.

    Raises:
        ModelError: a layer or a head cannot be read.
    """
    if all_heads:
        if head is not None:
            raise ModelError("head and all_heads exclude each other", "give one of them")
        layer, head = ALL if layer is None else layer, ALL
    best, (layers, heads) = family.known_best(model), family.cross_attention(model)
    chosen = Choice(
        _resolve_layers(layer, best.layers, layers),
        _resolve("head", head, best.heads, heads),
        known=best.known and layer is None and head is None,
        separate=all_heads,
    )
    defaults = [f"--layer {chosen.layers[0]}"] * (layer is None)
    defaults += [f"--head {chosen.heads[0]}"] * (head is None)
    if defaults and not best.known:
        say(f"note: took {' '.join(defaults)}; the best layer and head of this model are not known")
    return chosen


def _resolve_layers(chosen: Selection, best: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return the indices of the chosen layers, without the last layer.

    The match is read off the first token of the last layer's output, and nothing mixes tokens after
    the last cross-attention. So the match does not depend on the last cross-attention of other
    tokens: their gradient is exactly 0, and so is their salience.

    Raises:
        ModelError: a layer does not exist, or is the last layer.
    """
    last = count - 1
    if last == 0:
        raise ModelError(
            f"the model has a single cross-attention layer, and {_LAST_IS_EMPTY}",
            "take a checkpoint whose text encoder has two layers at least",
        )
    if isinstance(chosen, tuple) and last in chosen:
        raise ModelError(
            f"layer {last} is the model's last, and {_LAST_IS_EMPTY}",
            f"give {_choices('layer', last)}: --layer 0",
        )
    return _resolve("layer", chosen, best, last)


def _resolve(name: str, chosen: Selection, best: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return the chosen indices below `count`, sorted.

    Raises:
        ModelError: an index does not exist, or none was given.
    """
    if chosen is None:
        return best
    if chosen == ALL:
        return tuple(range(count))
    if isinstance(chosen, str):
        raise ModelError(f"{name} is {chosen!r}", f"give numbers, or all: --{name} 0,1")
    wrong = [index for index in chosen if not 0 <= index < count]
    if wrong or not chosen:
        raise ModelError(
            f"there is no {name} {wrong[0]}" if wrong else f"{name} is empty",
            f"give {_choices(name, count)}: --{name} 0",
        )
    return tuple(sorted(set(chosen)))


def _choices(name: str, count: int) -> str:
    return f"{name} 0" if count == 1 else f"{name}s 0 to {count - 1}"


def _round(model: nn.Module) -> None:
    """Round the weights of a model to float16, in place.

    Raises:
        ModelError: a weight is too large for float16.
    """
    largest = torch.finfo(torch.float16).max
    for name, weight in model.named_parameters():
        if weight.abs().max() > largest:
            raise ModelError(
                f"{name} has values beyond {largest:.0f}, the largest float16 value",
                "export it with --weights float32",
            )
    model.half()


def _int_or_list(indices: Sequence[int]) -> int | list[int]:
    return indices[0] if len(indices) == 1 else list(indices)
