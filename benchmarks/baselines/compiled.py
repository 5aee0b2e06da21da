"""Runs the method in compiled PyTorch and in low precision, for users who care for speed."""

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
    """Segments images in the lean form, with the passes compiled by `torch.compile`.

    Only presets that drop half of the remaining patches in each pass can run.

    Args:
        args: Positional arguments of `EagerSegmenter`; the weights of the model are converted.
        dtype: Dtype of weights and activations.
        options: Keyword arguments of `EagerSegmenter`.
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
        """Run K passes of Salience DropOut.

        Returns:
            Class maps float32 [C, p, p]; the match probabilities are left empty.

        Raises:
            ValueError: The preset drops a fixed number of patches in a pass.
        """
        if preset.drops is not None:
            raise ValueError(
                f"the preset drops {preset.drops} patches in a pass, and compiled passes drop half"
                " of the remaining ones: take a preset with drops=None"
            )
        ids, positions = self._caption(classes, preset)
        class_token = torch.zeros_like(ids, dtype=torch.bool)
        class_token[:, [token for tokens in positions for token in tokens]] = True
        with span("preprocess"):
            pixels = self._pixels(image)
        total = self.passes(pixels, ids, torch.ones_like(ids), class_token, preset.passes)[0]
        grid = self.image_size // self.patch
        maps = torch.stack([total[tokens].mean(dim=0) for tokens in positions])
        return Maps(maps.reshape(-1, grid, grid).cpu().numpy(), np.zeros(0, np.float32))
