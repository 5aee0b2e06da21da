"""Holds exported graphs to PyTorch: Hugging Face's own forward, and autograd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BlipForImageTextRetrieval

from ..engine.artifact import SALIENCE, VISION, VISION_TOKENS
from ..engine.runners.onnxruntime import OnnxRuntimeRunner
from .salience_graph import MATCH

BATCHES = (1, 3)
CAPTION_LENGTHS = (6, 17)
TOLERANCE = 1e-4  # float32, of the largest value; seen: 3e-6, and 1e-5 for BLIP-large's shape


def export_error(
    model: BlipForImageTextRetrieval,
    folder: Path,
    layers: Sequence[int],
    heads: Sequence[int],
    *,
    separate: bool,
    seed: int = 0,
) -> dict[str, float]:
    """The largest error of each output, relative to the output's largest value, on random inputs.

    Two batch sizes and two caption lengths are tried, with padding, masked patches, and one picture
    shared by several captions. `kept_embeds` are the image embeddings of some of the tokens.

    Args:
        model: resized to the exported image size.
        folder: of the exported graphs.
        layers: as exported.
        heads: as exported.
        separate: as exported.
        seed: of the inputs.
    """
    random = np.random.default_rng(seed)
    vision, vision_tokens = (OnnxRuntimeRunner(folder / name) for name in (VISION, VISION_TOKENS))
    encoder: Any = model.vision_model
    size = encoder.config.image_size
    names = ("image_embeds", "kept_embeds", "itm_logits", "salience")
    errors = dict.fromkeys(names, 0.0)
    cases: list[dict[str, np.ndarray]] = []
    for batch in BATCHES:
        pixels = random.normal(size=(batch, 3, size, size)).astype(np.float32)
        with torch.no_grad():
            wanted = encoder(torch.from_numpy(pixels)).last_hidden_state.numpy()
        found = vision.run({"pixel_values": pixels})["image_embeds"]
        errors["image_embeds"] = max(errors["image_embeds"], relative_error(found, wanted))
        cases += [_inputs(random, model, wanted, batch, length) for length in CAPTION_LENGTHS]
        shared = _inputs(random, model, wanted[:1], batch, CAPTION_LENGTHS[0])
        cases.append(shared)
        kept = _kept(random, batch, wanted.shape[1])
        found = vision_tokens.run({"pixel_values": pixels, "kept": kept})["image_embeds"]
        error = relative_error(found, embeds_of_kept(model, pixels, kept))
        errors["kept_embeds"] = max(errors["kept_embeds"], error)
    vision.close()
    vision_tokens.close()

    salience = OnnxRuntimeRunner(folder / SALIENCE)
    for feeds in cases:
        found = salience.run(feeds)
        wanted = autograd_salience(model, feeds, layers, heads, separate=separate)
        for name, value in found.items():
            errors[name] = max(errors[name], relative_error(value, wanted[name]))
    salience.close()
    return errors


def embeds_of_kept(
    model: BlipForImageTextRetrieval, pixels: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """What the image encoder should give of some tokens, from Hugging Face's layers: [B, R, D].

    Each picture is run alone, without padding, the rows of which repeat that of [CLS].
    """
    encoder: Any = model.vision_model
    rows: list[torch.Tensor] = []
    with torch.no_grad():
        for tokens, positions in zip(
            encoder.embeddings(torch.from_numpy(pixels)), kept, strict=True
        ):
            there, places = np.unique(positions, return_inverse=True)
            hidden = encoder.encoder(inputs_embeds=tokens[None, there]).last_hidden_state
            rows.append(encoder.post_layernorm(hidden)[0, places])
    return torch.stack(rows).numpy()


def autograd_salience(
    model: BlipForImageTextRetrieval,
    feeds: dict[str, np.ndarray],
    layers: Sequence[int],
    heads: Sequence[int],
    *,
    separate: bool,
) -> dict[str, np.ndarray]:
    """What the salience graph should give, from Hugging Face's forward and autograd.

    Each caption is run alone, without its padding and without the patches it must not see.
    """
    batch, length = feeds["input_ids"].shape
    images, patches = feeds["patch_keep"].shape
    logits = np.zeros((batch, 2), np.float32)
    maps = np.zeros((batch, len(layers), len(heads), length, patches), np.float32)
    for row in range(batch):
        image = row if images > 1 else 0
        kept = np.flatnonzero(feeds["patch_keep"][image])
        tokens = int(feeds["attention_mask"][row].sum())
        logits[row], own = _autograd_of_one(
            model,
            torch.from_numpy(feeds["image_embeds"][image][[0, *(kept + 1)]])[None],
            torch.from_numpy(feeds["input_ids"][row, :tokens])[None],
            layers,
            heads,
        )
        maps[row, :, :, :tokens, kept] = np.moveaxis(own, -1, 0)
    return {"itm_logits": logits, "salience": maps if separate else maps.mean(axis=(1, 2))}


def _autograd_of_one(
    model: BlipForImageTextRetrieval,
    embeds: torch.Tensor,
    ids: torch.Tensor,
    layers: Sequence[int],
    heads: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [2] and salience [L, H, T, P] of one caption about one picture."""
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


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest value wanted; infinite if one is not finite."""
    if not np.isfinite(found).all():
        return float("inf")
    difference = float(np.abs(found - wanted).max())
    return difference and difference / max(float(np.abs(wanted).max()), np.finfo(np.float32).tiny)


@contextmanager
def _tapped(
    model: BlipForImageTextRetrieval, layers: Sequence[int]
) -> Iterator[list[torch.Tensor]]:
    """Collect the cross-attention of `layers`, cut off from what lies below the lowest.

    The tap is the attention's dropout, which passes its input on in eval mode.
    """
    found: dict[int, torch.Tensor] = {}
    taps: list[torch.Tensor] = []

    def hook(layer: int):
        def replace(_module, _inputs, output: torch.Tensor) -> torch.Tensor:
            found[layer] = output.detach().requires_grad_() if layer == min(layers) else output
            if len(found) == len(layers):
                taps.extend(found[index] for index in layers)
            return found[layer]

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
    """Half of the tokens of each picture; of the last one fewer, and padding."""
    kept = np.stack([1 + random.permutation(tokens - 1)[: tokens // 2] for _ in range(batch)])
    kept[:, 0] = kept[-1, tokens // 4 :] = 0
    return kept


def _inputs(
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
