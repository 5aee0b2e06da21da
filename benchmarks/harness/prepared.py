"""A model that is ready to be measured, without a word on how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PreparedModel:
    """A checkpoint and its export, as every segmenter loads them.

    Attributes:
        checkpoint: for PyTorch, a folder or a name of the Hugging Face hub.
        folder: its export.
        device: "cpu" or "cuda:N".
    """

    checkpoint: str
    folder: Path
    device: str
