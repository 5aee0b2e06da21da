"""Defines the protocol of a family of checkpoints, and the records that it exchanges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx_ir as ir
from tokenizers import Tokenizer

from ...engine.model.manifest import Preprocess, Text
from ...engine.model.signature import Baked, Graph, Role
from ..graphs import builder

if TYPE_CHECKING:  # the records of graphs are used without PyTorch
    from torch import Tensor

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of a checkpoint on this machine, before the model is loaded.

    Attributes:
        path: path of a Hugging Face folder, or of a file of weights.
        config: content of a folder's `config.json`; empty for a file of weights.
        weights: weights of a file by their keys, mapped into memory; empty for a folder.
    """

    path: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model and its tokenizer.

    Attributes:
        model: model in eval mode, on the CPU, with the position embeddings of the checkpoint.
        tokenizer: tokenizer without padding and truncation.
        notes: messages to the user about choices that the loader made.
    """

    model: Any  # torch.nn.Module, of a class that the family knows
    tokenizer: Tokenizer
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Choice:
    """The cross-attention layers and heads whose salience a graph returns.

    Attributes:
        layers: indices of cross-attention layers, from 0; salience is averaged over them.
        heads: indices of attention heads, from 0; salience is averaged over them.
        known: whether these layers and heads are known to be the best ones for such a model.
        separate: whether the graph returns every layer's and head's map instead of the average.
    """

    layers: tuple[int, ...]
    heads: tuple[int, ...]
    known: bool = False
    separate: bool = False


@dataclass(frozen=True)
class FamilyGraph:
    """A graph of a model, with what the manifest records of it; see `signature.Graph`.

    Attributes:
        model: graph, with its weights in float32 or float16.
        roles: role of each dynamic dimension, by the dimension's name.
        lengths: sizes of a padded dimension, or of the classes, that builds are made for, by its
            name.
        limits: largest size of such a dimension, by its name.
        gradient: whether the graph computes a gradient.
        only_for: settings that the graph runs for; it runs for no other values of them.
        shares: name of an earlier graph whose file holds this graph's weights; None if the graph
            has a file of weights.
        baked: what is fixed in a fused graph; None for other graphs.
    """

    model: ir.Model
    roles: Mapping[str, Role]
    lengths: Mapping[str, Sequence[int]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    gradient: bool = False
    only_for: Mapping[str, str] = field(default_factory=dict)
    shares: str | None = None
    baked: Baked | None = None

    def record(self, file: str, weights: str | list[str]) -> Graph:
        """Return the record of the graph in the manifest.

        Args:
            file: path of the ONNX file from the model folder, with forward slashes.
            weights: path of the file of weights, or of several such files.
        """
        inputs, outputs = builder.signature(self.model)
        return Graph(
            file=file,
            weights=weights,
            inputs=inputs,
            outputs=outputs,
            roles=dict(self.roles),
            lengths={dimension: list(sizes) for dimension, sizes in self.lengths.items()},
            limits=dict(self.limits),
            gradient=self.gradient,
            only_for=dict(self.only_for),
            baked=self.baked,
        )


@dataclass(frozen=True)
class Trial:
    """Inputs on which an exported graph is compared with PyTorch.

    Attributes:
        graph: name of the graph.
        feeds: inputs of the graph, by name.
    """

    graph: str
    feeds: Arrays


class Family(Protocol):
    """The protocol of a family: all that the exporter must know of a kind of checkpoint.

    Attributes:
        name: name of the family in the manifest.
        method: name of the method that runs the family's models, in the manifest.
    """

    name: str
    method: str

    def recognises(self, files: CheckpointFiles) -> bool:
        """Tell whether a checkpoint is of this family, by `model_type` or its weights' keys."""
        ...

    def load(self, files: CheckpointFiles, tokenizer: Path | None) -> Checkpoint:
        """Load a checkpoint.

        Args:
            files: files of a checkpoint of this family.
            tokenizer: file or folder of a tokenizer that replaces the checkpoint's tokenizer.

        Raises:
            ModelError: the checkpoint cannot be read, or lacks what the method needs.
        """
        ...

    def resize(self, model: Any, sides: tuple[int, int]) -> None:
        """Change the input size of a model to (height, width) in pixels, in place.

        Raises:
            ModelError: the model cannot take images of this size.
        """
        ...

    def preprocess(self, model: Any) -> Preprocess:
        """Return how an image becomes the model's input: size, patches, mean, deviation."""
        ...

    def text(self, checkpoint: Checkpoint) -> Text:
        """Return how class names become tokens: prompt, special tokens, context length.

        Raises:
            ModelError: the tokenizer does not fit the model.
        """
        ...

    def cross_attention(self, model: Any) -> tuple[int, int]:
        """Count the cross-attention layers of a model, and the heads of a layer."""
        ...

    def known_best(self, model: Any) -> Choice:
        """Return the layer and head that are best for a model, as far as that is known."""
        ...

    def graphs(self, model: Any, choice: Choice) -> dict[str, FamilyGraph]:
        """Build the graphs of a model, by name, in the order in which they are written."""
        ...

    def trials(self, model: Any, random: np.random.Generator) -> Iterator[Trial]:
        """Yield inputs on which every graph is compared; the model is in float32."""
        ...

    def reference(self, model: Any, choice: Choice, trial: Trial) -> Arrays:
        """Compute the outputs of a graph by eager PyTorch, in the model's precision."""
        ...
