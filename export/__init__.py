"""Checkpoint to model folder. Of the installed package, only this imports PyTorch."""

from .onnx import export

__all__ = ["export"]
