"""The contents of `manifest.json`: what a model is, and all that whoever runs it must know."""

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
    """Size in bytes and sha256 (hex) of one file of the folder."""

    size: int
    sha256: str


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the weights came from: hub id, file or folder name; and the commit, if known."""

    source: str
    revision: str | None = None


class Preprocess(msgspec.Struct, frozen=True):
    """How an image becomes the input of the image encoder.

    Attributes:
        sides: height and width of the input in pixels, multiples of `patch`.
        patch: side of a patch in pixels.
        mean: of red, green and blue, in [0, 1]; it is subtracted.
        std: likewise; what is left is divided by it.
        resize: the rule. "pillow-bicubic" is Pillow's bicubic to `sides`, whatever the proportions
            of the image.
    """

    sides: tuple[int, int]
    patch: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: Literal["pillow-bicubic"] = "pillow-bicubic"

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along a column and along a row, [gh, gw]."""
        height, width = self.sides
        return height // self.patch, width // self.patch

    @property
    def patches(self) -> int:
        """P: patches in all."""
        rows, columns = self.grid
        return rows * columns


class Text(msgspec.Struct, frozen=True):
    """How class names become tokens: `first_id`, the prompt, the names, `last_id`, padding.

    Attributes:
        tokenizer: the kind of tokenizer in `tokenizer.json`, "wordpiece" and the like.
        prompt: the words before the names.
        joiner: what stands before each name in a sentence. A name is encoded with it, as some
            tokenizers encode a word at the start of a text otherwise than one inside.
        lowercase: whether text is put into lower case first.
        first_id: id of the token that opens a caption.
        last_id: id of the token that closes it.
        pad_id: id of padding.
        unknown: the token for what the vocabulary cannot write; None where it can write all.
        context: tokens that fit into a caption, the first and the last included.
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
        schema_version: of the manifest's form.
        software_version: of pnp-ovss, which wrote it.
        checkpoint: where the weights came from.
        method: what makes class maps with this model, a key of `methods.METHODS`.
        family: the kind of checkpoint, for which `export/models/` has a folder.
        preprocess: how an image becomes an input.
        text: how class names become tokens.
        graphs: by name.
        layer: cross-attention layers that are read, from 0; over a list, salience is averaged.
        head: heads that are read, likewise.
        layer_known: whether layer and head are known to be the best for such a model.
        all_heads: the salience graph keeps every map apart ([B, L, H, T, P]), for tuning only.
        dtype: precision of the arithmetic.
        weights: precision of the stored weights, to which PyTorch's were rounded before the export
            was compared with them.
        export_error: of each output, "graph.output", the largest difference from PyTorch in
            float64, relative to the output's largest value.
        settings: those that are recommended.
        files: size and digest of each file, by its path from the model folder.
        trained: false where the weights are random.
        classes: the only names that the model was taught, if so; in lower case.
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
