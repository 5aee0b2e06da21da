"""BLIP's image-text-matching model: everything that is known of it lies in this folder.

The package is a `base.Family`. `checkpoint` loads a model, in Hugging Face's form or the original
one (`original`); `vision` and `salience` build its graphs; `eager` says what they should give.
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
    """Image encoder, matching branch with its gradient, image encoder on some tokens."""
    patches = preprocess(model).patches
    config: Any = model.config.text_config
    context = config.max_position_embeddings
    rows: dict[str, Role] = {"batch": "rows"}
    return {
        "vision": FamilyGraph(vision_graph(model), rows),
        "salience": FamilyGraph(
            salience_graph(model, choice.layers, choice.heads, separate=choice.separate),
            {**rows, "images": "shared", "tokens": "padded"},
            lengths={"tokens": sorted({min(one, context) for one in CAPTION_LENGTHS})},
            limits={"tokens": context},
            gradient=True,
        ),
        "vision_tokens": FamilyGraph(
            vision_graph(model, of_kept=True),
            {**rows, "kept": "padded"},
            lengths={"kept": [1 + left for left in Settings().patches_left(patches)]},
            limits={"kept": 1 + patches},
            only_for={"drop_mode": "tokens"},
            shares="vision",
        ),
    }
