"""Whole segmenters in PyTorch, from an image's file to its labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.processors import processors
from pnp_ovss.engine.tracing import span

from ..baselines import eager, tf32
from ..baselines.compiled import CompiledSegmenter
from ..baselines.eager import EagerSegmenter, Preset
from ..harness.prepared import PreparedModel
from .base import COMPILED_SEGMENTERS, LEAN, RELEASED, Task


def open_pytorch(name: str, model: PreparedModel) -> PyTorchSegmenter:
    """Load a segmenter of `PYTORCH_SEGMENTERS`."""
    if name in COMPILED_SEGMENTERS:
        dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
        return PyTorchSegmenter(model, partial(CompiledSegmenter.load, dtype=dtype))
    form = RELEASED if name == RELEASED else LEAN
    autocast = name.endswith("bf16")
    return PyTorchSegmenter(model, partial(EagerSegmenter.load, form=form), autocast=autocast)


class PyTorchSegmenter:
    """The method in PyTorch.

    Args:
        model: to load.
        make: the segmenter, of a checkpoint and options.
        autocast: to bfloat16.
    """

    def __init__(
        self, model: PreparedModel, make: Callable[..., EagerSegmenter], *, autocast: bool = False
    ) -> None:
        manifest = open_model(model.folder, verify=False).manifest
        torch.set_num_threads(processors())
        self._autocast = autocast
        self._segmenter = make(
            model.checkpoint,
            image_size=manifest.preprocess.sides[0],
            layers=np.atleast_1d(manifest.layer).tolist(),
            heads=np.atleast_1d(manifest.head).tolist(),
            device=model.device,
        )

    def segment(self, task: Task) -> np.ndarray:
        """See `TimedSegmenter.segment`."""
        image = _decode(task.image)
        with self._precision():
            return self._segmenter.segment(image, task.classes, _preset(task))

    def maps(self, task: Task) -> np.ndarray:
        """See `TimedSegmenter.maps`."""
        image = _decode(task.image)
        with self._precision():
            return self._segmenter.maps(image, task.classes, _preset(task)).class_maps

    def stream(self, task: Task, images: int, batch: int) -> None:
        """See `TimedSegmenter.stream`."""
        for _ in range(images):
            self.segment(task)

    def synchronize(self) -> None:
        """See `TimedSegmenter.synchronize`."""
        if self._segmenter.device.type == "cuda":
            torch.cuda.synchronize(self._segmenter.device)

    def read_back(self) -> dict[str, Any]:
        """See `TimedSegmenter.read_back`."""
        return {
            "weights": str(next(self._segmenter.model.parameters()).dtype),
            "autocast": self._autocast,
            "threads": torch.get_num_threads(),
            "float32 products": torch.get_float32_matmul_precision(),
            "bf16 products": torch.backends.mkldnn.is_available(),
            "tf32": tf32.allowed(),
            "crf": eager.crf_package(),
        }

    def _precision(self) -> Any:
        if not self._autocast:
            return contextlib.nullcontext()
        return torch.autocast(self._segmenter.device.type, torch.bfloat16)


def _preset(task: Task) -> Preset:
    return replace(eager.PRESETS["paper"], passes=task.passes, drop_mode=task.drop_mode)


def _decode(path: Path) -> Image.Image:
    with span("decode"), Image.open(path) as image:
        return image.convert("RGB")
