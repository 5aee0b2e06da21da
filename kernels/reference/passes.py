"""Defines what the passes compute around the model: from pixels to class maps.

Symbols in shapes:
    B: images of a batch.
    N: captions of a batch; image b has the captions first_caption[b] to first_caption[b + 1] - 1.
    T: tokens of a caption, padding included.
    P: patches of an image, row by row from a grid of gh rows and gw columns.
    C: classes.
    H, W: height and width of an image in pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]


def normalize(pixels: NDArray[np.uint8], mean: FloatArray, std: FloatArray) -> FloatArray:
    """Normalize pixels: (pixels / 255 - mean) / std, with the channels first.

    Args:
        pixels: pixels, uint8 [B, H, W, 3].
        mean: mean of each color channel in [0, 1], float32 [3].
        std: standard deviation of each color channel, float32 [3].

    Returns:
        Normalized pixels, float32 [B, 3, H, W].
    """
    scaled = pixels.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))


def blank_patches(pixels: FloatArray, dropped: NDArray[np.bool_], patch: int) -> FloatArray:
    """Zero the normalized pixels of dropped patches, so that these show the mean color.

    Args:
        pixels: normalized pixels, [B, 3, H, W]; H is gh * patch, W is gw * patch.
        dropped: whether each patch is dropped, bool [B, P].
        patch: side of a patch in pixels.

    Returns:
        Copy of the pixels with zeros in the dropped patches, [B, 3, H, W].
    """
    batch, channels, height, width = pixels.shape
    rows, columns = height // patch, width // patch
    tiles = pixels.copy().reshape(batch, channels, rows, patch, columns, patch)
    keep = ~dropped.reshape(batch, 1, rows, 1, columns, 1)
    tiles *= keep
    return tiles.reshape(pixels.shape)


def accumulate(
    total: FloatArray,
    salience: FloatArray,
    dropped: NDArray[np.bool_],
    class_token: NDArray[np.bool_],
    first_caption: NDArray[np.int32],
    weight: float,
) -> FloatArray:
    """Add the salience of a pass to the total, and score the patches of each image.

    The salience of dropped patches counts as zero.

    Args:
        total: salience summed over passes, float32 [N, T, P], changed in place.
        salience: salience of this pass, [N, T, P].
        dropped: whether each patch is dropped, bool [B, P].
        class_token: whether each token belongs to a class, bool [N, T].
        first_caption: index of each image's first caption, int32 [B + 1].
        weight: weight of this pass in the total.

    Returns:
        Scores of the patches, float32 [B, P]: this pass's salience, summed over the class tokens of
        an image's captions.
    """
    scores = np.zeros(dropped.shape, np.float32)
    for image, is_dropped in enumerate(dropped):
        for caption in range(first_caption[image], first_caption[image + 1]):
            visible = np.where(is_dropped, np.float32(0), salience[caption].astype(np.float32))
            total[caption] += np.float32(weight) * visible
            caption_scores = np.zeros_like(scores[image])
            for token in visible[class_token[caption]]:  # one by one: .sum() adds in another order
                caption_scores += token
            scores[image] += caption_scores
    return scores


def drop_salient(
    scores: FloatArray, dropped: NDArray[np.bool_], count: int | None
) -> NDArray[np.bool_]:
    """Drop the remaining patches of the highest scores; among equal scores, the lower index first.

    Args:
        scores: scores of the patches, float32 [B, P].
        dropped: whether each patch was dropped by an earlier pass, bool [B, P].
        count: number of patches to drop in each image, at most all remaining ones. None stands for
            half of the remaining patches, rounded down.

    Returns:
        Whether each patch is dropped by an earlier pass or by this call, bool [B, P].
    """
    result = dropped.copy()
    for image_scores, before, after in zip(scores, dropped, result, strict=True):
        order = np.argsort(-image_scores, kind="stable")
        remaining = order[~before[order]]
        after[remaining[: len(remaining) // 2 if count is None else count]] = True
    return result


def class_maps(
    total: FloatArray,
    members: NDArray[np.int32],
    first_member: NDArray[np.int32],
    summed: NDArray[np.bool_],
) -> FloatArray:
    """Compute the salience map of each class: the mean over the class's tokens.

    Args:
        total: salience summed over passes, float32 [N, T, P].
        members: tokens of all classes, int32 [M]; token t of caption n has the number n * T + t.
        first_member: index of each class's first member, int32 [C + 1]; class c has the members
            first_member[c] to first_member[c + 1] - 1.
        summed: whether a class's map is the sum over its tokens instead of the mean, bool [C].

    Returns:
        Class maps, float32 [C, P].
    """
    rows = total.reshape(-1, total.shape[-1])
    maps = np.empty((len(summed), rows.shape[1]), np.float32)
    for index, is_sum in enumerate(summed):
        tokens = rows[members[first_member[index] : first_member[index + 1]]]
        maps[index] = tokens.sum(axis=0) if is_sum else tokens.mean(axis=0)
    return maps
