"""Whole segmenters by name, and how to load each.

PyTorch is imported for its own segmenters alone: whoever measures the engine need not load it.
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
    """Load a segmenter of `SEGMENTERS`.

    Raises:
        PnpOvssError: it cannot be had here.
        ImportError: a package that it needs is missing.
    """
    if name in PYTORCH_SEGMENTERS:
        from .pytorch import open_pytorch

        return open_pytorch(name, model)
    backend, _, precision = name.rpartition("-")
    return EngineSegmenter(model, backend, precision)


def precision_of(name: str) -> str:
    """Precision of the arithmetic of a segmenter of `SEGMENTERS`."""
    tail = name.rpartition("-")[2]
    return tail if tail in PRECISIONS else "fp32"
