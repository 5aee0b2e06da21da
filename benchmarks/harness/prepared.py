"""Defines a model that is ready to be measured; it imports nothing that makes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PreparedModel:
    """Names a checkpoint and its export, which segmenters load, and the device to run on.

    Attributes:
        checkpoint: Checkpoint for PyTorch: a folder, or an id on the Hugging Face hub.
        folder: Model folder that was exported from the checkpoint.
        device: Device to run on, "cpu" or "cuda:N".
    """

    checkpoint: str
    folder: Path
    device: str
