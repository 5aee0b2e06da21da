"""Composes the fused graph of a model folder: the whole method, from an image to class maps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from ...engine.errors import InputError, ModelError
from ...engine.inputs.names import CleanClass, names_of
from ...engine.methods.pnp_ovss.fused import caption_inputs
from ...engine.model.folder import ModelFolder
from ...engine.model.signature import Baked, Role
from ...engine.refine.channels import has_background
from ...engine.settings import Settings
from ..graphs.builder import FLOAT
from ..graphs.loading import load_nodes, read_weight
from ..graphs.transposes import store_transposes
from ..models.base import FamilyGraph
from . import refinement
from .compose import Composition
from .passes import Captions, normalize, salience_dropout

METHOD = "pnp-ovss"
LARGEST_SIDE = 1 << 15  # of labels, in pixels
_VISION, _SALIENCE = "vision", "salience"
_INT64, _UINT8 = ir.DataType.INT64, ir.DataType.UINT8


@dataclass(frozen=True, kw_only=True)
class Fused:
    """What is fixed in a fused graph.

    Attributes:
        settings: settings of the passes; and of the refinement, if there is an output size. The
            CRF, the side at which to refine and the match threshold have no effect.
        classes: classes as `clean_names` returns them, whose caption is then part of the graph;
            None makes the caption an input.
        output_size: height and width of images in pixels; the graph then gives their labels too.
        uint8: whether the graph takes RGB pixels, uint8 [B, H, W, 3], and normalizes them.

    Raises:
        InputError: the drop mode or the size cannot be had.
    """

    settings: Settings
    classes: tuple[CleanClass, ...] | None = None
    output_size: tuple[int, int] | None = None
    uint8: bool = False

    def __post_init__(self) -> None:
        if self.settings.drop_mode == "tokens":
            raise InputError(
                "drop_mode is 'tokens', which no fused graph has",
                "take --drop-mode attention, which is faster still, or pixels",
            )
        size = self.output_size
        if size and not all(1 <= side <= LARGEST_SIDE for side in size):
            raise InputError(
                f"the output size is {size[0]}x{size[1]}", f"sides have 1 to {LARGEST_SIDE} pixels"
            )

    @property
    def baked(self) -> Baked:
        """The record of it in the manifest and in the ONNX file."""
        classes = None if self.classes is None else [list(names_of(one)) for one in self.classes]
        return Baked(
            settings=replace(self.settings, crf=None, refine_side=None),
            classes=classes,
            output_size=self.output_size,
        )


def fused_graph(model: ModelFolder, fused: Fused) -> FamilyGraph:
    """Compose the fused graph of a model folder from its graphs `vision` and `salience`.

    Inputs: `pixel_values` float32 [B, 3, H, W], or `pixels` uint8 [B, H, W, 3]. If the classes are
    not fixed, `input_ids` and `attention_mask` int64 [B, T], and `class_tokens` float32 [B, C, T],
    the weight of each token in each class.

    Outputs: `class_maps` float32 [B, C, gh, gw] and `match` float32 [B, K]; with an output size
    `labels` int32 [B, height, width].

    Weights refer to the files of the folder's graphs. Only what these do not have is new.

    Args:
        model: model folder.
        fused: what is fixed in the graph.

    Raises:
        ModelError: the model is of another method or was exported with --all-heads; or its files
            are damaged.
        InputError: the classes cannot be written, or do not fit into one caption.
    """
    _require(model)
    manifest, settings = model.manifest, fused.settings
    preprocess, grid = manifest.preprocess, manifest.preprocess.grid
    vision, salience = (load_nodes(model.graph_path(name)).graph for name in (_VISION, _SALIENCE))
    graph = Composition()
    height, width = preprocess.sides
    if fused.uint8:
        image = graph.input("pixels", _UINT8, ["batch", height, width, 3])
        pixels = normalize(graph, image, preprocess)
    else:
        pixels = image = graph.input("pixel_values", FLOAT, ["batch", 3, height, width])
    inputs, captions = [image], _caption_inputs(graph)
    classes: int | str = "classes"
    if fused.classes is None:
        inputs += captions
    else:
        classes = len(fused.classes)
        captions = _constant_captions(graph, image, model, fused)
        background = "always" if has_background(classes, settings) else "never"
        settings = replace(settings, background=background)

    class_maps, match = salience_dropout(
        graph, vision, salience, pixels, captions, preprocess, settings
    )
    if fused.classes is not None:
        class_maps = _largest_of_names(graph, class_maps, fused.classes, grid)
    outputs = {
        "class_maps": (class_maps, ["batch", classes, *grid]),
        "match": (match, ["batch", settings.passes]),
    }
    if fused.output_size:
        labels = refinement.labels(
            graph, class_maps, captions.class_tokens, grid, fused.output_size, settings
        )
        labels.dtype = refinement.LABELS
        outputs["labels"] = (labels, ["batch", *fused.output_size])
    composed = graph.finish(inputs, outputs)
    folder = model.graph_path(_SALIENCE).parent
    store_transposes(composed, lambda stored: read_weight(stored, folder))
    return _recorded(model, composed, fused)


def _recorded(model: ModelFolder, composed: ir.Model, fused: Fused) -> FamilyGraph:
    """Add what the manifest tells of the graph."""
    roles: dict[str, Role] = {"batch": "rows"}
    if fused.classes is not None:
        return FamilyGraph(composed, roles, gradient=True, baked=fused.baked)
    salience = model.graph(_SALIENCE)
    lengths, limit = salience.lengths["tokens"], salience.limits["tokens"]
    return FamilyGraph(
        composed,
        {**roles, "tokens": "padded", "classes": "classes"},
        # A class has one token at least, and one of padding costs next to nothing.
        lengths={"tokens": lengths, "classes": [max(lengths)]},
        limits={"tokens": limit, "classes": limit},
        gradient=True,
        baked=fused.baked,
    )


def _require(model: ModelFolder) -> None:
    """Refuse a model that has no fused graph.

    Raises:
        ModelError: it is of another method, or was exported with --all-heads.
    """
    if model.manifest.method != METHOD:
        raise ModelError(
            f"'{model.path}' is for the method {model.manifest.method!r}, and only {METHOD!r} has"
            " a fused graph",
            "export a checkpoint of that method",
        )
    if model.manifest.all_heads:
        raise ModelError(
            f"'{model.path}' was exported with --all-heads, for tuning",
            "export it again with --layer and --head to make a fused graph of it",
        )


def _caption_inputs(graph: Composition) -> Captions:
    return Captions(
        graph.input("input_ids", _INT64, ["batch", "tokens"]),
        graph.input("attention_mask", _INT64, ["batch", "tokens"]),
        graph.input("class_tokens", FLOAT, ["batch", "classes", "tokens"]),
    )


def _constant_captions(
    graph: Composition, image: ir.Value, model: ModelFolder, fused: Fused
) -> Captions:
    """Append the caption of the fixed classes, repeated for each image."""
    batch = graph.Shape(image, start=0, end=1)

    def repeated(array: np.ndarray) -> ir.Value:
        shape = graph.Concat(batch, graph.ints(*array.shape[1:]), axis=0)
        return graph.Expand(graph.constant(array), shape)

    arrays = caption_inputs(model, [fused.classes or ()], fused.settings)
    return Captions(
        *(repeated(arrays[name]) for name in ("input_ids", "attention_mask", "class_tokens"))
    )


def _largest_of_names(
    graph: Composition, maps: ir.Value, classes: tuple[CleanClass, ...], grid: tuple[int, int]
) -> ir.Value:
    """Append the maps of classes, [B, names, gh, gw] -> [B, classes, gh, gw]."""
    counts = [len(names_of(one)) for one in classes]
    most = max(counts)
    if most == 1:
        return maps
    first = np.cumsum([0, *counts[:-1]])
    # Of a class of fewer names, one stands for those that it lacks.
    places = [
        start + min(name, count - 1)
        for start, count in zip(first, counts, strict=True)
        for name in range(most)
    ]
    listed = graph.Gather(maps, graph.ints(*places), axis=1)
    by_class = graph.Reshape(listed, graph.ints(0, len(classes), most, *grid))
    return graph.ReduceMax(by_class, graph.ints(2), keepdims=0)
