"""Checkpoint to model folder: export, check, and only then put the folder in place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import msgspec
import torch
from transformers import BlipForImageTextRetrieval

from ..engine.errors import ModelError, OutputError, writing_to
from ..engine.inputs.text import Captioner
from ..engine.model.folder import SALIENCE, TOKENIZER, VISION, VISION_TOKENS, record_of
from ..engine.model.manifest import MANIFEST, SCHEMA_VERSION, Manifest, Weights
from ..engine.settings import Settings
from . import validate
from .graphs import builder
from .models.blip import checkpoint as blip
from .models.blip.salience import salience_graph
from .models.blip.vision import vision_graph

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
    """Export a checkpoint, compare it with autograd, and write its model folder.

    Args:
        checkpoint: a hub id, a Hugging Face folder, or an original BLIP `.pth` file.
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
    source = blip.load(checkpoint, revision=revision, tokenizer_path=tokenizer)
    for note in source.notes:
        say(f"note: {note}")
    model = source.model.requires_grad_(False)
    blip.resize_positions(model, image_size)
    caption = blip.caption(source)
    Captioner(source.tokenizer, caption)  # refuses a tokenizer that cannot write the prompt
    layers, heads = _choose(model, layer, head, all_heads, say)
    if weights == "float16":
        _round(model)

    with _appearing(output) as work:
        say("writing the image encoder")
        (work / "onnx").mkdir()
        vision, vision_tokens = work / VISION, work / VISION_TOKENS
        files = builder.save(vision_graph(model), vision)
        files += builder.save_sharing(vision_graph(model, of_kept=True), vision_tokens, vision)
        say("writing the matching branch with its gradient")
        files += builder.save(
            salience_graph(model, layers, heads, separate=all_heads), work / SALIENCE
        )
        (work / TOKENIZER).write_text(source.tokenizer.to_str(), encoding="utf-8")
        files.append(work / TOKENIZER)

        say("comparing with autograd in float64")
        accuracy = validate.accuracy(model.float(), work, layers, heads, separate=all_heads)
        validate.require_accurate(accuracy)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            software_version=version("pnp-ovss"),
            checkpoint=source.origin,
            family=blip.FAMILY,
            image_size=image_size,
            patch_size=model.vision_model.embeddings.patch_embedding.kernel_size[0],
            layer=_plain(layers),
            head=_plain(heads),
            all_heads=all_heads,
            caption=caption,
            dtype="float32",
            weights=weights,
            export_error={name: output.graph for name, output in accuracy.items()},
            settings=settings or Settings(),
            files={f.relative_to(work).as_posix(): record_of(f) for f in files},
            trained=trained,
            classes=[name.lower() for name in classes],
        )
        written = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        (work / MANIFEST).write_bytes(written + b"\n")
    return manifest


def _check_target(output: Path, overwrite: bool) -> None:
    if not output.exists():
        return
    if not (output / MANIFEST).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"'{output}' exists and is not a model folder", "choose another with -o")
    if (output / MANIFEST).is_file() and not overwrite:
        raise OutputError(f"'{output}' exists", "replace it with --overwrite")


def _choose(
    model: BlipForImageTextRetrieval,
    layer: Selection,
    head: Selection,
    all_heads: bool,
    say: Callable[[str], None],
) -> tuple[list[int], list[int]]:
    config: Any = model.config.text_config
    if all_heads:
        if head is not None:
            raise ModelError("head and all_heads exclude each other", "give one of them")
        layer, head = ALL if layer is None else layer, ALL
    best_layer, best_head, known = blip.known_best(model)
    layers = _resolve_layers(layer, best_layer, config.num_hidden_layers)
    heads = _resolve("head", head, best_head, config.num_attention_heads)
    taken = [f"--layer {layers[0]}"] * (layer is None) + [f"--head {heads[0]}"] * (head is None)
    if taken and not known:
        say(f"note: took {' '.join(taken)}; the best are known for BLIP-large alone")
    return layers, heads


def _resolve_layers(chosen: Selection, best: int, count: int) -> list[int]:
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


def _resolve(name: str, chosen: Selection, best: int, count: int) -> list[int]:
    if chosen is None:
        return [best]
    if chosen == ALL:
        return list(range(count))
    if isinstance(chosen, str):
        raise ModelError(f"{name} is {chosen!r}", "give numbers, or 'all'")
    wrong = [index for index in chosen if not 0 <= index < count]
    if wrong or not chosen:
        raise ModelError(
            f"there is no {name} {wrong[0] if wrong else 'named'}",
            f"of this model {_choices(name, count)} can be read",
        )
    return sorted(set(chosen))


def _choices(name: str, count: int) -> str:
    return f"{name} 0" if count == 1 else f"{name}s 0 to {count - 1}"


def _round(model: BlipForImageTextRetrieval) -> None:
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


def _plain(indices: list[int]) -> int | list[int]:
    return indices[0] if len(indices) == 1 else indices


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
