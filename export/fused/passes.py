"""Appends the passes of PnP-OVSS to a graph: Salience DropOut, class maps and match.

It computes what `engine.methods.pnp_ovss.passes` does with the engine's kernels, for images with
one caption each. Shapes: B images, T tokens, P = gh x gw patches, C classes, K passes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from ...engine.model.manifest import Preprocess
from ...engine.settings import Settings
from ..graphs.builder import FLOAT
from ..graphs.precision import compute_in_float32
from .compose import Composition


class Captions(NamedTuple):
    """The captions of B images, as values of a graph."""

    ids: ir.Value  # int64 [B, T]
    mask: ir.Value  # int64 [B, T]
    class_tokens: ir.Value  # float32 [B, C, T]


def normalize(graph: Composition, pixels: ir.Value, preprocess: Preprocess) -> ir.Value:
    """Append the normalization of pixels, uint8 [B, H, W, 3] -> float32 [B, 3, H, W]."""
    mean, std = (
        graph.constant(np.array(one, np.float32)) for one in (preprocess.mean, preprocess.std)
    )
    scaled = graph.Div(graph.Cast(pixels, to=FLOAT), graph.scalar(255.0))
    return graph.Transpose(graph.Div(graph.Sub(scaled, mean), std), perm=[0, 3, 1, 2])


def salience_dropout(
    graph: Composition,
    vision: ir.Graph,
    salience: ir.Graph,
    pixels: ir.Value,
    captions: Captions,
    preprocess: Preprocess,
    settings: Settings,
) -> tuple[ir.Value, ir.Value]:
    """Append K passes.

    Args:
        graph: graph that the nodes are appended to.
        vision: graph of the image encoder.
        salience: graph of the matching branch.
        pixels: normalized pixels, float32 [B, 3, H, W].
        captions: captions of the images.
        preprocess: size of the images and of their patches.
        settings: passes, drop schedule, drop mode ("pixels" or "attention") and weight of the
            first pass.

    Returns:
        Class maps [B, C, gh, gw] and the match probability of each pass [B, K], both float32.
    """
    is_class = _is_class(graph, captions.class_tokens)
    visible = graph.constant(np.ones((1, preprocess.patches), np.float32))
    keep, image, total, logits = visible, pixels, None, []
    left = settings.patches_left(preprocess.patches)
    for index in range(settings.passes):
        embeds = graph.copy(vision, {"pixel_values": image})["image_embeds"]
        found = graph.copy(
            salience,
            {
                "image_embeds": embeds,
                "input_ids": captions.ids,
                "attention_mask": captions.mask,
                "patch_keep": keep if settings.drop_mode == "attention" else visible,
            },
        )
        logits.append(graph.Unsqueeze(found["itm_logits"], graph.ints(1)))
        of_pass = found["salience"]
        if keep is not visible:
            of_pass = graph.Mul(of_pass, graph.Unsqueeze(keep, graph.ints(1)))
        weighted = of_pass
        if not index and settings.first_pass_weight > 1:
            weighted = graph.Mul(of_pass, graph.scalar(settings.first_pass_weight))
        total = weighted if total is None else graph.Add(total, weighted)
        if index < settings.passes - 1 and (count := left[index] - left[index + 1]):
            scores = _scores(graph, of_pass, is_class)
            keep = _drop(graph, scores, keep, preprocess.patches, count)
            if settings.drop_mode == "pixels":
                image = _blank(graph, pixels, keep, preprocess)
    assert total is not None
    maps = compute_in_float32(graph.MatMul(captions.class_tokens, total))
    probability = graph.Softmax(graph.Concat(*logits, axis=1), axis=-1)
    match = graph.Slice(probability, *map(graph.ints, (1, 2, 2)))
    return (
        graph.Reshape(maps, graph.ints(0, 0, *preprocess.grid)),
        graph.Squeeze(match, graph.ints(2)),
    )


def _is_class(graph: Composition, class_tokens: ir.Value) -> ir.Value:
    """Append a mask of the tokens that belong to a class, [B, C, T] -> [B, T, 1] of 0 and 1."""
    largest = graph.ReduceMax(class_tokens, graph.ints(1), keepdims=0)
    belongs = graph.Cast(graph.Greater(largest, graph.scalar(0.0)), to=FLOAT)
    return graph.Unsqueeze(belongs, graph.ints(2))


def _scores(graph: Composition, salience: ir.Value, is_class: ir.Value) -> ir.Value:
    """Append the sum of salience over the tokens of classes, [B, T, P] -> [B, 1, P]."""
    return graph.ReduceSum(graph.Mul(salience, is_class), graph.ints(1))


def _drop(
    graph: Composition, scores: ir.Value, keep: ir.Value, patches: int, count: int
) -> ir.Value:
    """Append the drop of the highest-scoring patches; of equal scores, the lower index first.

    The rank of a patch is the number of patches before it, which are counted: operators that sort
    differ between runtimes where scores are equal.

    Args:
        graph: graph that the nodes are appended to.
        scores: scores of the patches, at least 0; [B, 1, P].
        keep: 1 for a patch that is left, else 0; [B, P] or [1, P].
        patches: number of patches, P.
        count: number of patches that are dropped, at most all that are left.

    Returns:
        1 for a patch that is left after the drop, else 0; [B, P].
    """
    index = np.arange(patches, dtype=np.float32)
    row, column = graph.constant(index[None, :]), graph.constant(index[:, None])
    kept = graph.Unsqueeze(keep, graph.ints(1))
    # A dropped patch scores -1, and so comes after all that are left.
    others = graph.Add(graph.Mul(scores, kept), graph.Sub(kept, graph.scalar(1.0)))
    patch = graph.Transpose(others, perm=[0, 2, 1])
    first_of_equals = graph.And(graph.Equal(others, patch), graph.Less(row, column))
    before = graph.Or(graph.Greater(others, patch), first_of_equals)  # [B, P, P]
    rank = graph.ReduceSum(graph.Cast(before, to=FLOAT), graph.ints(2), keepdims=0)
    stays = graph.Cast(graph.GreaterOrEqual(rank, graph.scalar(float(count))), to=FLOAT)
    return graph.Mul(keep, stays)


def _blank(
    graph: Composition, pixels: ir.Value, keep: ir.Value, preprocess: Preprocess
) -> ir.Value:
    """Append the pixels with zeros in dropped patches, [B, 3, H, W]."""
    (rows, columns), patch = preprocess.grid, preprocess.patch
    tiles = graph.Reshape(pixels, graph.ints(0, 3, rows, patch, columns, patch))
    of_tiles = graph.Reshape(keep, graph.ints(0, 1, rows, 1, columns, 1))
    return graph.Reshape(graph.Mul(tiles, of_tiles), graph.ints(0, 3, *preprocess.sides))
