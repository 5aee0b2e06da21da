"""Arithmetic that a pass takes, and how much of it a processor does in a second."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import BlipForImageTextRetrieval

from pnp_ovss.export.models import blip

from ..baselines import tf32

_SIDE = {"cpu": 512, "cuda": 8192}  # of the matrices that are multiplied
_SECONDS = 0.3


def flops_of_pass(model: BlipForImageTextRetrieval, image_size: int, tokens: int) -> float:
    """FLOP of the matrix products in one pass over one picture: two a multiplication and addition.

    The image encoder, the matching branch over a caption of `tokens`, and its gradient down to the
    default layer; products with matrices of weights and those inside attention.
    """
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    (layer,) = blip.known_best(model).layers
    patches = (image_size // vision.patch_size) ** 2
    seen, width = 1 + patches, vision.hidden_size
    image = patches * width * 3 * vision.patch_size**2
    image += vision.num_hidden_layers * (
        seen * (4 * width**2 + 2 * width * vision.intermediate_size) + 2 * seen**2 * width
    )
    own = text.hidden_size
    of_tokens = tokens * (6 * own**2 + 2 * own * text.intermediate_size)
    of_attention = 2 * tokens * (tokens + seen) * own
    of_image = 2 * seen * width * own
    layers = text.num_hidden_layers
    forward = layers * (of_tokens + of_attention + of_image)
    backward = (layers - layer) * of_tokens + 2 * (layers - layer - 1) * of_attention
    return 2.0 * (image + forward + backward)


def matrix_rate(dtype: torch.dtype, device: str) -> float:
    """FLOP/s of large matrix products, those of float32 not in TF32."""
    tf32.refuse()
    kind = torch.device(device).type
    side = _SIDE[kind]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        torch.matmul(a, b)
        if kind == "cuda":
            torch.cuda.synchronize(device)

    product()
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
    return 2.0 * side**3 / best
