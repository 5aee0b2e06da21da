"""The method in PyTorch for those who care for speed: `torch.compile`, and low precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from pnp_ovss.engine.tracing import span

from .eager import PRESETS, EagerSegmenter, Maps, Preset
from .passes import EagerPasses


class CompiledSegmenter(EagerSegmenter):
    """Segmenter in the lean form, for presets that halve, with the passes compiled.

    Args:
        args: of the base; the model's weights are converted.
        dtype: of weights and activations.
        options: of the base.
    """

    def __init__(self, *args: Any, dtype: torch.dtype = torch.float32, **options: Any) -> None:
        super().__init__(*args, **options)
        self.passes = EagerPasses(
            self.model,
            layer=self.layers[0],
            head=self.heads[0],
            dtype=dtype,
            device=str(self.device),
            compiled=True,
        )

    def maps(
        self, image: Image.Image, classes: Sequence[str], preset: Preset = PRESETS["paper"]
    ) -> Maps:
        """K passes of Salience DropOut; the match of each is not kept."""
        if preset.drops is not None:
            raise ValueError("only half of the patches left can be dropped")
        ids, owned = self._caption(classes, preset)
        class_token = torch.zeros_like(ids, dtype=torch.bool)
        class_token[:, [token for tokens in owned for token in tokens]] = True
        with span("preprocess"):
            pixels = self._pixels(image)
        total = self.passes(pixels, ids, torch.ones_like(ids), class_token, preset.passes)[0]
        grid = self.image_size // self.patch
        maps = torch.stack([total[tokens].mean(dim=0) for tokens in owned])
        return Maps(maps.reshape(-1, grid, grid).cpu().numpy(), np.zeros(0, np.float32))
