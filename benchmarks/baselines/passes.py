"""Runs the K passes of Salience DropOut over a batch in eager or compiled PyTorch, CPU or GPU.

It computes what `eager.EagerSegmenter` does in its lean form, without a loop over images and
without a wait between passes: what a user of PyTorch would write for speed. It shares no code with
the engine but the spans of the stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from transformers import BlipForImageTextRetrieval

from pnp_ovss.engine.tracing import span

from . import tf32


class EagerPasses:
    """Runs K passes, each of which drops half of the remaining patches.

    Args:
        model: BLIP model, resized to the image size of its inputs; it is changed in place.
        layer: Layer of the text encoder whose cross-attention gives the salience, from 0.
        head: Head of that cross-attention, from 0.
        dtype: Dtype of weights and activations.
        device: Name of PyTorch's device.
        compiled: Whether `torch.compile` compiles the image encoder, and the matching branch with
            its gradient.
    """

    def __init__(
        self,
        model: BlipForImageTextRetrieval,
        *,
        layer: int,
        head: int,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
        compiled: bool = False,
    ) -> None:
        tf32.refuse()
        self.model: Any = model.eval().requires_grad_(False)
        self.model.to(device, dtype)
        self.layer, self.head, self.dtype = layer, head, dtype
        self.patch: int = self.model.config.vision_config.patch_size
        self._embed = torch.compile(self._embeds) if compiled else self._embeds
        self._match = torch.compile(self._matched) if compiled else self._matched

    def __call__(
        self,
        pixels: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor,
        class_token: torch.Tensor,
        passes: int,
    ) -> torch.Tensor:
        """Sum the salience over the passes.

        Args:
            pixels: Normalized pixels, float32 [B, 3, S, S].
            ids: Token ids of the captions, int64 [B, T].
            mask: 1 at tokens that are not padding, int64 [B, T].
            class_token: Whether a token belongs to a class name, bool [B, T].
            passes: Number K of passes.

        Returns:
            Salience of each token and patch, float32 [B, T, P].
        """
        batch, _, size, _ = pixels.shape
        grid = size // self.patch
        pixels = pixels.to(self.dtype)
        dropped = torch.zeros(batch, grid * grid, dtype=torch.bool, device=pixels.device)
        total = torch.zeros(*ids.shape, grid * grid, device=pixels.device)
        for index in range(passes):
            with span("vision"), torch.no_grad():
                keep = (~dropped).to(self.dtype).reshape(batch, 1, grid, grid)
                keep = functional.interpolate(keep, scale_factor=self.patch, mode="nearest")
                embeds = self._embed(pixels * keep)
            with span("salience"):
                salience = self._salience(embeds, ids, mask).masked_fill(dropped[:, None], 0)
            with span("drop"):
                total += salience
                if index < passes - 1:
                    scores = (salience * class_token[..., None]).sum(dim=1).masked_fill(dropped, -1)
                    half = (~dropped).sum(dim=1, keepdim=True) // 2
                    rank = scores.sort(descending=True, stable=True, dim=1).indices.argsort(dim=1)
                    dropped = dropped | (rank < half)
        return total

    def _salience(
        self, embeds: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        heads = self.model.config.text_config.num_attention_heads
        # Zeros are added to the attention: their gradient is that of the attention, and nothing
        # below the attention is differentiated.
        zero = torch.zeros(
            len(ids), heads, ids.shape[1], embeds.shape[1], dtype=self.dtype, device=ids.device
        ).requires_grad_()
        logit, attention = self._match(embeds, ids, mask, zero)
        (gradient,) = torch.autograd.grad(logit.sum(), zero)
        salience = attention.detach() * gradient.relu()
        rows = mask[..., None].to(self.dtype)
        return (salience[:, self.head, :, 1:] * rows).float()

    def _embeds(self, pixels: torch.Tensor) -> torch.Tensor:
        encoder = self.model.vision_model
        return encoder(pixels, interpolate_pos_encoding=True).last_hidden_state

    def _matched(
        self, embeds: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor, zero: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the match logits [B], and the attention [B, H, T, 1 + P] plus `zero`."""
        with self._added(zero) as attention:
            hidden = self.model.text_encoder(
                input_ids=ids, attention_mask=mask, encoder_hidden_states=embeds
            ).last_hidden_state
        return self.model.itm_head(hidden[:, 0])[:, 1], attention[0]

    @contextmanager
    def _added(self, zero: torch.Tensor) -> Iterator[list[torch.Tensor]]:
        """Add zeros to the attention of the layer; the list gets the sum when the model runs."""
        attention: list[torch.Tensor] = []

        def add(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            attention.append(output + zero)
            return attention[0]

        cross = self.model.text_encoder.encoder.layer[self.layer].crossattention.self
        handle = cross.dropout.register_forward_hook(add)  # identity in eval mode
        try:
            yield attention
        finally:
            handle.remove()
