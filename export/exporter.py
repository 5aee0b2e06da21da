"""Checkpoint to model folder: export, check, and only then put the folder in place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from ..engine.errors import ModelError, OutputError, writing_to
from ..engine.inputs.text import Captioner
from ..engine.model.folder import record_of, write_manifest
from ..engine.model.manifest import MANIFEST, SCHEMA_VERSION, TOKENIZER, Manifest, Weights
from ..engine.model.manifest import Checkpoint as Origin
from ..engine.model.signature import Graph
from ..engine.settings import Settings
from . import validate
from .graphs import builder
from .models.base import Checkpoint, Choice, Family, FamilyGraph
from .models.registry import family_of
from .models.source import find_checkpoint

FOLDER = "onnx"  # of the graphs, in the model folder
DEFAULT_IMAGE_SIZE = 336
ALL = "all"
_LAST_IS_EMPTY = (
    "the last has no salience for class names, as the match is read off the first token"
)
Selection = tuple[int, ...] | str | None  # indices, "all", or the default


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
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Export a checkpoint, compare it with PyTorch, and write its model folder.

    Args:
        checkpoint: a hub id, a Hugging Face folder, or a file of weights (`.pth`).
        output: the folder to make. It appears whole or not at all.
        image_size: side of the model's input, a multiple of the patch size.
        layer: cross-attention layers to read, from 0; several are averaged. The last one has no
            salience for class names, so it is refused, and "all" leaves it out.
        head: heads to read, likewise.
        all_heads: keep every map of the chosen layers (all, unless chosen) apart, for tuning.
        revision: branch, tag or commit of a hub id.
        tokenizer: in place of the checkpoint's own.
        settings: to recommend in the manifest.
        weights: how to store them; "float16" halves the folder. All arithmetic is in float32;
            the export is compared with PyTorch on weights rounded the same way.
        classes: the only names the model was taught, if so.
        trained: false for random weights; `demo` says so.
        overwrite: replace a model folder that is already there.
        say: is told of each step.

    Raises:
        ModelError: the checkpoint cannot be used, or float32 is not enough for it.
        ExecutionError: the export is out of tolerance.
        OutputError: the folder exists, or cannot be written.
    """
    if weights not in get_args(Weights):
        raise ModelError(f"weights is {weights!r}", "give 'float32' or 'float16'")
    output = output.expanduser().absolute()
    _check_target(output, overwrite)
    say(f"loading {checkpoint}")
    family, source, origin = _load(checkpoint, revision, tokenizer)
    for note in source.notes:
        say(f"note: {note}")
    model = source.model.requires_grad_(False)
    family.resize(model, (image_size, image_size))
    text = family.text(source)
    Captioner(source.tokenizer, text)  # refuses a tokenizer that cannot write the prompt
    choice = _choose(family, model, layer, head, all_heads, say)
    if weights == "float16":
        _round(model)

    with _appearing(output) as work:
        graphs, files = _write_graphs(family.graphs(model, choice), work, say)
        (work / TOKENIZER).write_text(source.tokenizer.to_str(), encoding="utf-8")
        say("comparing with PyTorch in float64")
        onnx = {name: work / graph.file for name, graph in graphs.items()}
        accuracy = validate.accuracy(family, model.float(), onnx, choice)
        outputs = [f"{name}.{one}" for name, graph in graphs.items() for one in graph.outputs]
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
            layer=_plain(choice.layers),
            head=_plain(choice.heads),
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
    return manifest


def _load(
    checkpoint: str, revision: str | None, tokenizer: Path | None
) -> tuple[Family, Checkpoint, Origin]:
    """A checkpoint, its family, and where it came from; its files are not held any longer."""
    files, origin = find_checkpoint(checkpoint, revision)
    family = family_of(files)
    return family, family.load(files, tokenizer), origin


def _write_graphs(
    graphs: Mapping[str, FamilyGraph], work: Path, say: Callable[[str], None]
) -> tuple[dict[str, Graph], list[Path]]:
    """Write graphs into a folder; return what the manifest tells of them, and the files."""
    (work / FOLDER).mkdir()
    records: dict[str, Graph] = {}
    files: list[Path] = []
    for name, graph in graphs.items():
        say(f"writing the graph {name}")
        path = work / FOLDER / f"{name}.onnx"
        if graph.shares is None:
            written = builder.save(graph.model, path)
            weights = written[-1].relative_to(work).as_posix()
        else:
            written = builder.save_sharing(graph.model, path, work / records[graph.shares].file)
            weights = records[graph.shares].weights
        files += written
        inputs, outputs = builder.signature(graph.model)
        records[name] = Graph(
            file=path.relative_to(work).as_posix(),
            weights=weights,
            inputs=inputs,
            outputs=outputs,
            roles=dict(graph.roles),
            lengths={dimension: list(sizes) for dimension, sizes in graph.lengths.items()},
            limits=dict(graph.limits),
            gradient=graph.gradient,
            only_for=dict(graph.only_for),
        )
    return records, files


def _check_target(output: Path, overwrite: bool) -> None:
    if not output.exists():
        return
    if not (output / MANIFEST).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"'{output}' exists and is not a model folder", "choose another with -o")
    if (output / MANIFEST).is_file() and not overwrite:
        raise OutputError(f"'{output}' exists", "replace it with --overwrite")


def _choose(
    family: Family,
    model: Any,
    layer: Selection,
    head: Selection,
    all_heads: bool,
    say: Callable[[str], None],
) -> Choice:
    """The cross-attention maps to read: those asked for, else the family's best."""
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
    taken = [f"--layer {chosen.layers[0]}"] * (layer is None)
    taken += [f"--head {chosen.heads[0]}"] * (head is None)
    if taken and not best.known:
        say(f"note: took {' '.join(taken)}; the best layer and head of this model are not known")
    return chosen


def _resolve_layers(chosen: Selection, best: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Indices of layers, without the last one.

    The match is read off the first token of the last layer's output, and nothing mixes tokens after
    its cross-attention: the match does not depend on what other tokens see there, their gradient
    is exactly 0, and so is their salience.

    Raises:
        ModelError: a layer does not exist, or is the last.
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
            f"{_choices('layer', last)} can be read",
        )
    return _resolve("layer", chosen, best, last)


def _resolve(name: str, chosen: Selection, best: tuple[int, ...], count: int) -> tuple[int, ...]:
    if chosen is None:
        return best
    if chosen == ALL:
        return tuple(range(count))
    if isinstance(chosen, str):
        raise ModelError(f"{name} is {chosen!r}", "give numbers, or 'all'")
    wrong = [index for index in chosen if not 0 <= index < count]
    if wrong or not chosen:
        raise ModelError(
            f"there is no {name} {wrong[0] if wrong else 'named'}",
            f"of this model {_choices(name, count)} can be read",
        )
    return tuple(sorted(set(chosen)))


def _choices(name: str, count: int) -> str:
    return f"{name} 0" if count == 1 else f"{name}s 0 to {count - 1}"


def _round(model: nn.Module) -> None:
    """Round the weights to float16.

    Raises:
        ModelError: one is too large for it.
    """
    largest = torch.finfo(torch.float16).max
    for name, weight in model.named_parameters():
        if weight.abs().max() > largest:
            raise ModelError(
                f"{name} has values beyond {largest:.0f}, the largest of float16",
                "export it with --weights float32",
            )
    model.half()


def _plain(indices: Sequence[int]) -> int | list[int]:
    return indices[0] if len(indices) == 1 else list(indices)


@contextmanager
def _appearing(output: Path) -> Iterator[Path]:
    """A folder to work in, which takes its place at `output` when all went well."""
    with writing_to(output, "choose another folder with -o"):
        output.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        work, old = room / "new", room / "old"
        try:
            work.mkdir()
            yield work
            if output.exists():
                output.replace(old)
            try:
                work.replace(output)
            except OSError:
                if old.exists():
                    old.replace(output)
                raise
        finally:
            shutil.rmtree(room, ignore_errors=True)
