"""Implements the family of BLIP's image-text-matching models (Li et al., 2022).

This package is a `base.Family`. `checkpoint` loads a model from Hugging Face's form, and `original`
from BLIP's original form. `vision` and `salience` build the graphs. `eager` computes the outputs of
the graphs by PyTorch, for comparison.
"""

from __future__ import annotations

from typing import Any

from transformers import BlipForImageTextRetrieval

from ....engine.model.signature import CAPTION_LENGTHS, Role
from ....engine.settings import Settings
from ..base import Choice, FamilyGraph
from .checkpoint import cross_attention, known_best, load, preprocess, recognises, resize, text
from .eager import reference, trials
from .salience import salience_graph
from .vision import vision_graph

__all__ = [
    "cross_attention",
    "graphs",
    "known_best",
    "load",
    "method",
    "name",
    "preprocess",
    "recognises",
    "reference",
    "resize",
    "text",
    "trials",
]

name = "blip"
method = "pnp-ovss"


def graphs(model: BlipForImageTextRetrieval, choice: Choice) -> dict[str, FamilyGraph]:
    """Build the image encoder, the salience graph, and the image encoder on some of the tokens."""
    patches = preprocess(model).patches
    config: Any = model.config.text_config
    context = config.max_position_embeddings
    rows: dict[str, Role] = {"batch": "rows"}
    return {
        "vision": FamilyGraph(vision_graph(model), rows),
        "salience": FamilyGraph(
            salience_graph(model, choice.layers, choice.heads, separate=choice.separate),
            {**rows, "images": "shared", "tokens": "padded"},
            lengths={"tokens": sorted({min(length, context) for length in CAPTION_LENGTHS})},
            limits={"tokens": context},
            gradient=True,
        ),
        "vision_tokens": FamilyGraph(
            vision_graph(model, token_subset=True),
            {**rows, "kept": "padded"},
            lengths={"kept": [1 + left for left in Settings().patches_left(patches)]},
            limits={"kept": 1 + patches},
            only_for={"drop_mode": "tokens"},
            shares="vision",
        ),
    }
