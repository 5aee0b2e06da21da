"""The engine on one of its backends, from an image's file to its labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pnp_ovss.engine import Segmenter
from pnp_ovss.engine.runners.base import Runner
from pnp_ovss.engine.settings import Settings

from ..harness.prepared import PreparedModel
from .base import Task


class EngineSegmenter:
    """The engine on one of its backends.

    Args:
        model: to load.
        backend: a key of `BACKENDS`.
        precision: of its arithmetic.

    Raises:
        PnpOvssError: it cannot be had.
    """

    def __init__(self, model: PreparedModel, backend: str, precision: Any) -> None:
        self._segmenter = Segmenter.load(
            model.folder,
            backend=backend,
            device=model.device,
            precision=precision,
            verify=False,
        )

    def segment(self, task: Task) -> np.ndarray:
        """See `TimedSegmenter.segment`."""
        found = self._segmenter.segment(task.image, task.classes, settings=_settings(task))
        return found.labels

    def maps(self, task: Task) -> np.ndarray:
        """See `TimedSegmenter.maps`."""
        settings = replace(_settings(task), crf=None)
        found = self._segmenter.segment(task.image, task.classes, settings=settings)
        return found.class_maps

    def stream(self, task: Task, images: int, batch: int) -> None:
        """See `TimedSegmenter.stream`."""
        pairs = [(task.image, task.classes)] * images
        for _ in self._segmenter.stream(pairs, batch_size=batch, settings=_settings(task)):
            pass

    def synchronize(self) -> None:
        """See `TimedSegmenter.synchronize`."""
        device = self._segmenter.method.device
        if device.stream is not None:  # all of its streams: refinement and CRF have one beside it
            device.xp.cuda.Device(device.index).synchronize()

    def read_back(self) -> dict[str, Any]:
        """See `TimedSegmenter.read_back`."""
        method: Any = self._segmenter.method
        return {name: _facts(runner) for name, runner in method.graphs.runners.loaded.items()}


def _settings(task: Task) -> Settings:
    return Settings.preset("paper", drop_mode=task.drop_mode, passes=task.passes)


def _facts(runner: Runner) -> dict[str, Any]:
    """Facts that a runner tells of itself."""
    names = ("providers", "properties", "recipe", "captured")
    return {name: getattr(runner, name) for name in names if hasattr(runner, name)}
