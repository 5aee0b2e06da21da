"""Random inputs of the graphs of a small model, and the files of graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pnp_ovss.engine.model.folder import open_model
from tests.conftest import IMAGE_SIZE, VISION

if TYPE_CHECKING:
    import torch

PATCHES = (IMAGE_SIZE // 16) ** 2


def graph_file(folder: Path, graph: str) -> Path:
    """The ONNX file of a graph of a model folder."""
    return open_model(folder, verify=False).graph_path(graph)


def vision_feeds(batch: int, *, side: int = IMAGE_SIZE) -> dict[str, np.ndarray]:
    """Normalized pixels."""
    random = np.random.default_rng(batch)
    return {"pixel_values": random.normal(size=(batch, 3, side, side)).astype(np.float32)}


def kept_tokens(
    random: np.random.Generator, batch: int, count: int, *, patches: int = PATCHES
) -> np.ndarray:
    """Positions of [CLS] and of patches, int64, in any order; the last picture's half padding."""
    each = np.tile(np.arange(1 + patches), (batch, 1))
    each[:, 1:] = random.permuted(each[:, 1:], axis=1)
    each[-1, 1 + count // 2 :] = 0
    return each[:, :count]


def vision_tokens_feeds(batch: int, kept: int, *, side: int = IMAGE_SIZE) -> dict[str, np.ndarray]:
    """Normalized pixels, and which of the tokens the encoder sees."""
    random = np.random.default_rng(batch + kept)
    positions = kept_tokens(random, batch, kept, patches=(side // 16) ** 2)
    return vision_feeds(batch, side=side) | {"kept": positions}


def salience_feeds(
    batch: int, images: int, tokens: int, *, patches: int = PATCHES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Captions, the last of them padded, about pictures of which some patches are masked."""
    random = np.random.default_rng(seed)
    embeds = random.normal(size=(images, 1 + patches, VISION["hidden_size"]))
    mask = np.ones((batch, tokens), np.int64)
    mask[-1, 1 + tokens // 2 :] = 0
    return {
        "image_embeds": embeds.astype(np.float32),
        "input_ids": random.integers(0, 30524, (batch, tokens)),
        "attention_mask": mask,
        "patch_keep": (random.random((images, patches)) < 0.7).astype(np.float32),
    }


def by_picture(
    feeds: Mapping[str, np.ndarray], captions: int | None = None
) -> dict[str, torch.Tensor]:
    """As the PyTorch module takes them: captions [images, captions, tokens].

    Args:
        feeds: of a graph.
        captions: of each picture; by default all are of the one, or each is of its own.
    """
    import torch

    tensors = {name: torch.from_numpy(value) for name, value in feeds.items()}
    for name in ("input_ids", "attention_mask"):
        if name in tensors:
            each = captions or len(feeds[name]) // len(feeds["image_embeds"])
            tensors[name] = tensors[name].unflatten(0, (-1, each))
    return tensors
