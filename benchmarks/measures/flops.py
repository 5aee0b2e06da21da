"""Counts the arithmetic of a pass, and measures the processor's rate of matrix products."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import BlipForImageTextRetrieval

from pnp_ovss.export.models import blip

from ..baselines import tf32

_SIDE = {"cpu": 512, "cuda": 8192}  # rows and columns of the matrices
_SECONDS = 0.3  # of multiplications


def flops_of_pass(model: BlipForImageTextRetrieval, image_size: int, tokens: int) -> float:
    """Count the FLOP of one pass over one image; a multiplication and an addition are two.

    Counted are the matrix products with weights and inside attention: of the image encoder, of the
    matching branch, and of its gradient down to the default layer.

    Args:
        model: BLIP model.
        image_size: Side of the model's square input, in pixels.
        tokens: Length of the caption, in tokens.
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
    hidden = text.hidden_size
    of_tokens = tokens * (6 * hidden**2 + 2 * hidden * text.intermediate_size)
    of_attention = 2 * tokens * (tokens + seen) * hidden
    of_image = 2 * seen * width * hidden
    layers = text.num_hidden_layers
    forward = layers * (of_tokens + of_attention + of_image)
    backward = (layers - layer) * of_tokens + 2 * (layers - layer - 1) * of_attention
    return 2.0 * (image + forward + backward)


def matrix_rate(dtype: torch.dtype, device: str) -> float:
    """Measure the FLOP/s of large matrix products; TF32 is off.

    Args:
        dtype: Dtype of the matrices.
        device: Device, "cpu" or "cuda:N".
    """
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
