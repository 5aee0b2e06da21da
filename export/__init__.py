"""Exports a checkpoint to a model folder, and builds the folder's graphs ahead of time."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exporter import export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    """Import the exporter, and so PyTorch, on first use: TensorRT builds without PyTorch."""
    if name != "export":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .exporter import export

    return export
