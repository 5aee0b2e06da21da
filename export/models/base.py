"""What a family of checkpoints is: all that the exporter asks of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from tokenizers import Tokenizer
from torch import Tensor

from ...engine.model.manifest import Preprocess, Text
from ...engine.model.signature import Role

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint on this machine.

    Attributes:
        path: a Hugging Face folder, or a file of weights.
        config: `config.json` of a folder; empty for a file.
        weights: of a file, by their keys there, mapped from it; empty for a folder.
    """

    path: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A model ready to export, and its tokenizer.

    Attributes:
        model: in eval mode, on the CPU, its position embeddings as stored.
        tokenizer: without padding and truncation.
        notes: choices made for the user, to be shown.
    """

    model: Any  # a torch.nn.Module of the family's own class
    tokenizer: Tokenizer
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Choice:
    """The cross-attention maps that are read.

    Attributes:
        layers: indices of cross-attention layers, from 0; salience is averaged over them.
        heads: indices of heads, likewise.
        known: whether layers and heads are known to be the best for such a model.
        separate: keep every map apart instead.
    """

    layers: tuple[int, ...]
    heads: tuple[int, ...]
    known: bool = False
    separate: bool = False


@dataclass(frozen=True)
class FamilyGraph:
    """A graph of a family, and what the manifest tells of it; see `signature.Graph`.

    Attributes:
        model: the graph, its weights in float32 or float16.
        roles: of its dynamic dimensions.
        lengths: of the dimension that may be padded, those that are worth a build.
        limits: the largest size of that dimension.
        gradient: whether it differentiates.
        only_for: settings without which it does not run.
        shares: the graph, earlier in order, in whose file its weights are; None where it has its
            own.
    """

    model: ir.Model
    roles: Mapping[str, Role]
    lengths: Mapping[str, Sequence[int]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    gradient: bool = False
    only_for: Mapping[str, str] = field(default_factory=dict)
    shares: str | None = None


@dataclass(frozen=True)
class Trial:
    """Inputs on which an exported graph is compared with PyTorch.

    Attributes:
        graph: its name.
        feeds: its inputs.
    """

    graph: str
    feeds: Arrays


class Family(Protocol):
    """All that is known of one kind of checkpoint.

    Attributes:
        name: as in the manifest.
        method: the method that its models are for, as in the manifest.
    """

    name: str
    method: str

    def recognises(self, files: CheckpointFiles) -> bool:
        """Whether a checkpoint is of this family, by `model_type` or the names of its weights."""
        ...

    def load(self, files: CheckpointFiles, tokenizer: Path | None) -> Checkpoint:
        """Load a checkpoint.

        Args:
            files: that `recognises` took.
            tokenizer: a tokenizer's file or folder, in place of the checkpoint's own.

        Raises:
            ModelError: it cannot be read, or is not what the method needs.
        """
        ...

    def resize(self, model: Any, sides: tuple[int, int]) -> None:
        """Make a model take images of a height and a width in pixels, in place.

        Raises:
            ModelError: it cannot.
        """
        ...

    def preprocess(self, model: Any) -> Preprocess:
        """How an image becomes an input."""
        ...

    def text(self, checkpoint: Checkpoint) -> Text:
        """How class names become tokens.

        Raises:
            ModelError: the tokenizer does not fit the model.
        """
        ...

    def cross_attention(self, model: Any) -> tuple[int, int]:
        """How many cross-attention layers a model has, and heads in each."""
        ...

    def known_best(self, model: Any) -> Choice:
        """A layer and a head to read."""
        ...

    def graphs(self, model: Any, choice: Choice) -> dict[str, FamilyGraph]:
        """The graphs of a model by name, in the order in which they are written."""
        ...

    def trials(self, model: Any, random: np.random.Generator) -> Iterator[Trial]:
        """Inputs on which to compare every graph; the model is in float32."""
        ...

    def reference(self, model: Any, choice: Choice, trial: Trial) -> Arrays:
        """The outputs that a graph should give, by the model itself, in the model's precision."""
        ...
