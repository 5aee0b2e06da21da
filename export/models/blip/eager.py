"""Computes the outputs of BLIP's graphs by Hugging Face's forward and autograd, for comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import BlipForImageTextRetrieval

from ..base import Arrays, Choice, Trial
from .salience import MATCH

BATCHES = (1, 3)
CAPTION_LENGTHS = (6, 17)


def trials(model: BlipForImageTextRetrieval, random: np.random.Generator) -> Iterator[Trial]:
    """Yield random inputs of every graph.

    The trials have two batch sizes and two caption lengths, with padding, masked patches, and an
    image shared by several captions. The model computes the image embeddings of the salience
    graph.
    """
    config: Any = model.vision_model.config
    size = config.image_size
    for batch in BATCHES:
        pixels = {"pixel_values": random.normal(size=(batch, 3, size, size)).astype(np.float32)}
        embeds = image_embeds(model, pixels["pixel_values"])
        yield Trial("vision", pixels)
        kept = _kept(random, batch, embeds.shape[1])
        yield Trial("vision_tokens", {**pixels, "kept": kept})
        for length in CAPTION_LENGTHS:
            yield Trial("salience", _salience_inputs(random, model, embeds, batch, length))
        shared = _salience_inputs(random, model, embeds[:1], batch, CAPTION_LENGTHS[0])
        yield Trial("salience", shared)


def reference(model: BlipForImageTextRetrieval, choice: Choice, trial: Trial) -> Arrays:
    """Compute the outputs of a graph by eager PyTorch, in the model's precision."""
    feeds = trial.feeds
    if trial.graph == "vision":
        return {"image_embeds": image_embeds(model, feeds["pixel_values"])}
    if trial.graph == "vision_tokens":
        return {"image_embeds": embeds_of_kept(model, feeds["pixel_values"], feeds["kept"])}
    return autograd_salience(model, feeds, choice)


def image_embeds(model: BlipForImageTextRetrieval, pixels: np.ndarray) -> np.ndarray:
    """Run the image encoder, pixels [B, 3, S, S] -> image embeddings [B, 1 + P, D]."""
    with torch.no_grad():
        tensor = torch.from_numpy(pixels).to(model.dtype)
        return model.vision_model(tensor).last_hidden_state.numpy()


def embeds_of_kept(
    model: BlipForImageTextRetrieval, pixels: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """Run the image encoder on some tokens, with Hugging Face's layers.

    Each image is run by itself, without padding. Rows of padding repeat the row of [CLS].

    Args:
        model: model.
        pixels: normalized pixels, [B, 3, S, S].
        kept: positions of the tokens, int64 [B, R]; 0 after the first is padding.

    Returns:
        Image embeddings, [B, R, D].
    """
    encoder: Any = model.vision_model
    rows: list[torch.Tensor] = []
    with torch.no_grad():
        embeddings = encoder.embeddings(torch.from_numpy(pixels).to(model.dtype))
        for tokens, positions in zip(embeddings, kept, strict=True):
            unique, inverse = np.unique(positions, return_inverse=True)
            hidden = encoder.encoder(inputs_embeds=tokens[None, unique]).last_hidden_state
            rows.append(encoder.post_layernorm(hidden)[0, inverse])
    return torch.stack(rows).numpy()


def autograd_salience(
    model: BlipForImageTextRetrieval,
    feeds: Mapping[str, np.ndarray],
    choice: Choice,
) -> Arrays:
    """Compute the outputs of the salience graph by Hugging Face's forward and autograd.

    Each caption is run by itself, without padding and without masked patches.

    Args:
        model: model.
        feeds: inputs of the salience graph, by name.
        choice: cross-attention layers and heads whose salience is computed.

    Returns:
        itm_logits [B, 2] and salience [B, T, P]; or [B, L, H, T, P] for separate maps.
    """
    batch, length = feeds["input_ids"].shape
    images, patches = feeds["patch_keep"].shape
    logits = np.zeros((batch, 2))
    maps = np.zeros((batch, len(choice.layers), len(choice.heads), length, patches))
    for row in range(batch):
        image = row if images > 1 else 0
        kept = np.flatnonzero(feeds["patch_keep"][image])
        tokens = int(feeds["attention_mask"][row].sum())
        logits[row], salience = _autograd_of_caption(
            model,
            torch.from_numpy(feeds["image_embeds"][image][[0, *(kept + 1)]])[None].to(model.dtype),
            torch.from_numpy(feeds["input_ids"][row, :tokens])[None],
            choice.layers,
            choice.heads,
        )
        maps[row, :, :, :tokens, kept] = np.moveaxis(salience, -1, 0)
    return {"itm_logits": logits, "salience": maps if choice.separate else maps.mean(axis=(1, 2))}


def _autograd_of_caption(
    model: BlipForImageTextRetrieval,
    embeds: torch.Tensor,
    ids: torch.Tensor,
    layers: Sequence[int],
    heads: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Compute logits [2] and salience [L, H, T, P] of a caption about an image."""
    with _tapped(model, layers) as taps, torch.enable_grad():
        hidden = model.text_encoder(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            encoder_hidden_states=embeds,
            encoder_attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
        ).last_hidden_state
        logits = model.itm_head(hidden[:, 0])
        gradients = torch.autograd.grad(logits[:, MATCH].sum(), taps)
    maps = [
        (a * g.clamp(min=0))[0, list(heads), :, 1:] for a, g in zip(taps, gradients, strict=True)
    ]
    return logits[0].detach().numpy(), torch.stack(maps).detach().numpy()


@contextmanager
def _tapped(
    model: BlipForImageTextRetrieval, layers: Sequence[int]
) -> Iterator[list[torch.Tensor]]:
    """Collect the cross-attention of `layers`, detached from the graph below the lowest layer.

    The hook sits on the attention's dropout, which returns its input in eval mode.
    """
    attention: dict[int, torch.Tensor] = {}
    taps: list[torch.Tensor] = []

    def hook(layer: int):
        def replace(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
            attention[layer] = output.detach().requires_grad_() if layer == min(layers) else output
            if len(attention) == len(layers):
                taps.extend(attention[index] for index in layers)
            return attention[layer]

        return replace

    text_layers: Any = model.text_encoder.encoder.layer
    handles = [
        text_layers[layer].crossattention.self.dropout.register_forward_hook(hook(layer))
        for layer in layers
    ]
    try:
        yield taps
    finally:
        for handle in handles:
            handle.remove()


def _kept(random: np.random.Generator, batch: int, tokens: int) -> np.ndarray:
    """Draw half of the tokens of each image; for the last image fewer tokens, and padding."""
    kept = np.stack([1 + random.permutation(tokens - 1)[: tokens // 2] for _ in range(batch)])
    kept[:, 0] = kept[-1, tokens // 4 :] = 0
    return kept


def _salience_inputs(
    random: np.random.Generator,
    model: BlipForImageTextRetrieval,
    embeds: np.ndarray,
    batch: int,
    length: int,
) -> dict[str, np.ndarray]:
    config: Any = model.config.text_config
    length = min(length, config.max_position_embeddings)
    ids = random.integers(0, config.vocab_size, (batch, length))
    mask = np.ones((batch, length), np.int64)
    mask[-1, 1 + length // 2 :] = 0
    keep = (random.random((len(embeds), embeds.shape[1] - 1)) < 0.7).astype(np.float32)
    return {"image_embeds": embeds, "input_ids": ids, "attention_mask": mask, "patch_keep": keep}
