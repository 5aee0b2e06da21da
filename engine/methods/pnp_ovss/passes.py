"""Salience DropOut: K passes over a batch, each without the patches dropped before."""

from __future__ import annotations

import numpy as np

from ...device import Array
from ...settings import Settings
from ...tracing import span
from .captions import CaptionBatch
from .graphs import Graphs


def salience_dropout(
    graphs: Graphs, pixels: Array, embeds: Array, captions: CaptionBatch, settings: Settings
) -> tuple[Array, Array]:
    """Run the K passes; on a GPU they are queued, and nothing waits for them.

    Patches are dropped for an image as a whole, by their salience over the class tokens of all
    captions of the image. Source: PnP-OVSS (CVPR 2024); `engine/METHOD.md`, step 4.

    Args:
        graphs: graphs of the model.
        pixels: normalized images, float32 [B, 3, H, W].
        embeds: embeddings of the images with no patch dropped, [B, 1 + P, D].
        captions: captions of the images.
        settings: number of passes, drop schedule, drop mode, and weight of the first pass.

    Returns:
        Salience summed over the passes, float32 [N, T, P]; and the ITM logits of each pass, float32
        [K, N, 2]. The results of an image do not depend on the rest of the batch.
    """
    xp, kernels = graphs.device.xp, graphs.device.kernels
    dropped = xp.zeros((len(pixels), embeds.shape[1] - 1), bool)
    keep = xp.ones(dropped.shape, np.float32)
    total = xp.zeros((*captions.ids.shape, dropped.shape[1]), np.float32)
    logits = xp.empty((settings.passes, len(total), 2), np.float32)
    count = None if settings.drop_schedule == "halving" else settings.drop_schedule
    for index, left in enumerate(settings.patches_left(dropped.shape[1])):
        if index and settings.drop_mode == "pixels":
            patch = graphs.manifest.preprocess.patch
            with span("vision"):
                embeds = graphs.embed(kernels.blank_patches(pixels, dropped, patch))
        elif index:
            keep = (~dropped).astype(np.float32)
            if settings.drop_mode == "tokens":
                with span("vision"):
                    embeds = _embed_kept(graphs, pixels, dropped, left)
        with span("salience"):
            salience, logits[index] = graphs.salience(embeds, keep, captions)
        with span("drop"):
            scores = kernels.accumulate(
                total,
                salience,
                dropped,
                captions.class_token,
                captions.first_caption,
                1 if index else settings.first_pass_weight,
            )
            if index < settings.passes - 1:
                dropped = kernels.drop_salient(scores, dropped, count)
    return total, logits


def _embed_kept(graphs: Graphs, pixels: Array, dropped: Array, left: int) -> Array:
    """Encode images by an encoder that sees only [CLS] and the patches that are left.

    Every image has as many patches left, so their number is known without waiting for a GPU.

    Args:
        graphs: graphs of the model.
        pixels: normalized images, float32 [B, 3, H, W].
        dropped: whether a patch was dropped, bool [B, P].
        left: number of patches that are left in each image.

    Returns:
        Image embeddings [B, 1 + P, D]. At dropped patches they repeat [CLS]; cross-attention must
        not look there.
    """
    xp = graphs.device.xp
    batch, patches = dropped.shape
    seen = xp.ones((batch, 1 + patches), bool)
    seen[:, 1:] = ~dropped
    rows = xp.arange(batch)[:, None]
    positions = (xp.cumsum(seen, axis=1) - 1) * seen
    kept = xp.zeros((batch, 1 + max(left, 1)), np.int64)  # padding where none is left
    kept[rows, positions] = xp.arange(1 + patches) * seen
    return graphs.embed_kept(pixels, kept)[rows, positions]
