"""Loads whole segmenters by name.

PyTorch is imported only for the segmenters that run on it, so that a process of the engine does
without.
"""

from __future__ import annotations

from pnp_ovss.engine.precision import PRECISIONS
from pnp_ovss.engine.runners import BACKENDS

from ..harness.prepared import PreparedModel
from .base import PYTORCH_SEGMENTERS, TimedSegmenter
from .engine import EngineSegmenter

ENGINE_SEGMENTERS = [
    f"{backend}-{precision}"
    for backend in BACKENDS
    for precision in PRECISIONS
    if precision != "auto"
]
SEGMENTERS = [*PYTORCH_SEGMENTERS, *ENGINE_SEGMENTERS]


def load(name: str, model: PreparedModel) -> TimedSegmenter:
    """Load a segmenter.

    Args:
        name: Name of the segmenter, of `SEGMENTERS`.
        model: Model that it loads.

    Raises:
        PnpOvssError: This machine or this model folder cannot run the segmenter.
        ImportError: A package of the segmenter is missing.
    """
    if name in PYTORCH_SEGMENTERS:
        from .pytorch import open_pytorch

        return open_pytorch(name, model)
    backend, _, precision = name.rpartition("-")
    return EngineSegmenter(model, backend, precision)


def precision_of(name: str) -> str:
    """Return the precision of a segmenter's arithmetic; `name` is of `SEGMENTERS`."""
    tail = name.rpartition("-")[2]
    return tail if tail in PRECISIONS else "fp32"
