"""The contents of `manifest.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ..settings import Settings

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
AGAIN = "the folder is damaged: export or copy it again"

Weights = Literal["float32", "float16"]


class FileRecord(msgspec.Struct, frozen=True):
    """Size in bytes and sha256 (hex) of one file of the folder."""

    size: int
    sha256: str


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the weights came from: hub id, file or folder name; and the commit, if known."""

    source: str
    revision: str | None = None


class Caption(msgspec.Struct, frozen=True):
    """Class names to tokens: the words before them, special ids, and how many tokens fit."""

    prompt: str
    enc_id: int
    sep_id: int
    pad_id: int
    max_tokens: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of `manifest.json`.

    `layer` and `head` count from 0; a list means that salience is averaged over them. With
    `all_heads` the salience graph keeps every map apart ([B, L, H, T, P]), for tuning only.
    `export_error` holds, per output, the largest difference from PyTorch in float64, relative to
    the output's largest value. `dtype` is the precision of the arithmetic, `weights` that of the
    stored weights, to which PyTorch's were rounded before the comparison. `classes`, where given,
    are the only names that the model was taught.
    """

    schema_version: int
    software_version: str
    checkpoint: Checkpoint
    family: str
    image_size: int
    patch_size: int
    layer: int | list[int]
    head: int | list[int]
    all_heads: bool
    caption: Caption
    dtype: str
    export_error: dict[str, float]
    settings: Settings
    files: dict[str, FileRecord]
    weights: Weights = "float32"
    trained: bool = True
    classes: list[str] = field(default_factory=list)

    @property
    def grid(self) -> int:
        """p: patches along a side."""
        return self.image_size // self.patch_size
