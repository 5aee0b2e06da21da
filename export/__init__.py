"""Checkpoint to model folder, model folder to builds. Only the former imports PyTorch."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exporter import export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    """Import PyTorch when it is needed: TensorRT builds without it."""
    if name != "export":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .exporter import export

    return export
