"""Contents of `manifest.json`: what a model is, and all that a host must know to run it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ..settings import Settings
from .signature import Graph

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
AGAIN = "the folder is damaged: export or copy it again"

Weights = Literal["float32", "float16"]


class FileRecord(msgspec.Struct, frozen=True):
    """Size in bytes and sha256 (hex) of a file of the folder."""

    size: int
    sha256: str


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the weights came from: a hub id, file or folder name; and the commit, if known."""

    source: str
    revision: str | None = None


class Preprocess(msgspec.Struct, frozen=True):
    """How an image becomes the input of the image encoder.

    Attributes:
        sides: height and width of the input in pixels, multiples of `patch`.
        patch: side of a patch in pixels.
        mean: mean of red, green and blue, in [0, 1]; it is subtracted from a pixel.
        std: standard deviation of red, green and blue; the difference is divided by it.
        resize: rule of the resize. "pillow-bicubic" is Pillow's bicubic to `sides`, whatever the
            proportions of the image.
    """

    sides: tuple[int, int]
    patch: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["pillow-bicubic"] = "pillow-bicubic"

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches, (gh, gw)."""
        height, width = self.sides
        return height // self.patch, width // self.patch

    @property
    def patches(self) -> int:
        """Number of patches, P = gh x gw."""
        rows, columns = self.grid
        return rows * columns


class Text(msgspec.Struct, frozen=True):
    """How class names become tokens: `first_id`, the prompt, the names, `last_id`, padding.

    Attributes:
        tokenizer: kind of the tokenizer in `tokenizer.json`, such as "wordpiece".
        prompt: words before the names.
        joiner: text before each name in a sentence. A name is encoded with it, as some tokenizers
            encode a word at the start of a text in another way than a word inside.
        lowercase: whether text is put into lower case first.
        first_id: id of the token that opens a caption.
        last_id: id of the token that closes a caption.
        pad_id: id of the token that pads a caption.
        unknown: token for what the vocabulary cannot write; None where it can write all.
        context: number of tokens that fit into a caption, the first and the last included.
    """

    tokenizer: str
    prompt: str
    joiner: str
    lowercase: bool
    first_id: int
    last_id: int
    pad_id: int
    unknown: str | None
    context: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of `manifest.json`.

    Attributes:
        schema_version: version of the manifest's schema.
        software_version: version of pnp-ovss that wrote the manifest.
        checkpoint: where the weights came from.
        method: method that makes class maps with this model, a key of `methods.METHODS`.
        family: kind of the checkpoint, the name of a folder in `export/models/`.
        preprocess: how an image becomes the input of the image encoder.
        text: how class names become tokens.
        graphs: graphs of the model, by name.
        layer: cross-attention layer that salience is read from, from 0; a list is averaged.
        head: head that salience is read from, from 0; a list is averaged.
        layer_known: whether layer and head are known to be the best for such a model.
        all_heads: whether the salience graph returns the map of every layer and head,
            [B, L, H, T, P]; such a model is for tuning only.
        dtype: precision of the arithmetic.
        weights: precision of the stored weights. PyTorch's weights were rounded to it before the
            export was compared with them.
        export_error: error of each output, by "graph.output": the largest difference from PyTorch
            in float64, relative to the output's largest value.
        settings: recommended settings.
        files: size and digest of each file, by its path from the model folder.
        trained: whether the weights were trained; false where they are random.
        classes: the only names that the model was taught, in lower case; empty where it takes any.
    """

    schema_version: int
    software_version: str
    checkpoint: Checkpoint
    method: str
    family: str
    preprocess: Preprocess
    text: Text
    graphs: dict[str, Graph]
    layer: int | list[int]
    head: int | list[int]
    layer_known: bool
    all_heads: bool
    dtype: str
    weights: Weights
    export_error: dict[str, float]
    settings: Settings
    files: dict[str, FileRecord]
    trained: bool = True
    classes: list[str] = field(default_factory=list[str])
