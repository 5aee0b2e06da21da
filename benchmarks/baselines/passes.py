"""The K passes of Salience DropOut over a batch in eager or compiled PyTorch, on a CPU or a GPU.

As `eager.EagerSegmenter` in its lean form, but for a batch, without a loop over pictures or a wait
between passes: what a user of PyTorch would write who cares for speed. It shares no code with the
engine but the spans of the stages.
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
    """K passes that drop half of the remaining patches each.

    Args:
        model: resized to the image size that it will see; changed in place.
        layer: of the cross-attention that is read.
        head: likewise.
        dtype: of weights and activations.
        device: of PyTorch.
        compiled: by `torch.compile`, the image encoder and the matching branch with its gradient.
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
        """Salience summed over the passes, float32 [B, T, P].

        Args:
            pixels: [B, 3, S, S].
            ids: int64 [B, T].
            mask: int64 [B, T].
            class_token: bool [B, T].
            passes: K.
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
        # A zero that is added to the attention: its gradient is the attention's, and nothing below
        # is differentiated.
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
        """The match logits [B], and the attention [B, H, T, 1 + P] that `zero` was added to."""
        with self._added(zero) as attention:
            hidden = self.model.text_encoder(
                input_ids=ids, attention_mask=mask, encoder_hidden_states=embeds
            ).last_hidden_state
        return self.model.itm_head(hidden[:, 0])[:, 1], attention[0]

    @contextmanager
    def _added(self, zero: torch.Tensor) -> Iterator[list[torch.Tensor]]:
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
