"""The demo model before training: BLIP's image-text-matching branch, with its own vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import BlipConfig, BlipForImageTextRetrieval

from pnp_ovss.engine.evaluation.datasets.stickers.classes import CLASSES, PIECES
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import SIDE
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.model.manifest import Text
from pnp_ovss.export.models.blip.checkpoint import PROMPT
from pnp_ovss.export.models.wordpiece import word_piece

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

VISION = {
    "image_size": SIDE,
    "patch_size": 16,
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
}
TEXT = {
    "hidden_size": 128,
    "encoder_hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "attention_probs_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0,
}


def tokenizer() -> Tokenizer:
    """An uncased WordPiece tokenizer over the words of the class names, some of them in pieces."""
    words = sorted({word for name in CLASSES for word in name.split()})
    pieces = [piece for word in words for piece in PIECES.get(word, (word,))]
    return word_piece(
        "\n".join(dict.fromkeys((*_SPECIAL, *PROMPT.lower().split(), *pieces, "[DEC]", "[ENC]")))
    )


def new_blip(words: Tokenizer) -> BlipForImageTextRetrieval:
    """A small BLIP with fresh weights, for square pictures of any number of whole patches."""
    text = {
        **TEXT,
        "vocab_size": words.get_vocab_size(),
        "bos_token_id": words.token_to_id("[DEC]"),
        "pad_token_id": words.token_to_id("[PAD]"),
        "sep_token_id": words.token_to_id("[SEP]"),
    }
    config = BlipConfig(vision_config=VISION, text_config=text, image_text_hidden_size=64)
    return BlipForImageTextRetrieval(config)


def captioner(words: Tokenizer) -> Captioner:
    """Writes captions as for the model that is exported."""
    ids = words.get_vocab()
    first, last, padding = (ids[token] for token in ("[ENC]", "[SEP]", "[PAD]"))
    room = TEXT["max_position_embeddings"]
    return Captioner(
        words, Text("wordpiece", PROMPT, " ", True, first, last, padding, "[UNK]", room)
    )


class WordPatchLogits(nn.Module):
    """How well each patch fits each class name; trained alongside and thrown away.

    Left to image-text matching alone, a fresh model stays at chance for long. An image-level
    multi-label loss on these logits starts it off; as the names are read from the very word
    embeddings that captions are made of, queries and keys begin on common ground.
    """

    average: torch.Tensor

    def __init__(self, blip: BlipForImageTextRetrieval, words: Tokenizer) -> None:
        super().__init__()
        text: Any = blip.config.text_config
        vision: Any = blip.config.vision_config
        self.project = nn.Linear(vision.hidden_size, text.hidden_size)
        self.bias = nn.Parameter(torch.tensor(-2.0))
        owned = [words.encode(name, add_special_tokens=False).ids for name in CLASSES]
        average = torch.zeros(len(CLASSES), words.get_vocab_size())
        for row, ids in zip(average, owned, strict=True):
            row[ids] = 1 / len(ids)
        self.register_buffer("average", average, persistent=False)

    def forward(self, embeddings: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """[V, D] word embeddings, [B, P, E] patches -> [B, P, C]."""
        names = nn.functional.layer_norm(self.average @ embeddings, embeddings.shape[1:])
        return self.project(patches) @ names.T / names.shape[1] ** 0.5 + self.bias


def encode_image(
    blip: BlipForImageTextRetrieval,
    pixels: torch.Tensor,
    kept: torch.Tensor | None = None,
    corner: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    """Image embeddings, [B, 1 + N, E].

    Args:
        blip: the model.
        pixels: [B, 3, H, W], normalized, of whole patches; no larger than the model's pictures.
        kept: the patches to look at, int64 [B, N]; by default all. The others' tokens are left out.
        corner: where in the grid of positions the picture lies, row and column.
    """
    vision = blip.vision_model
    shape: Any = blip.config.vision_config
    grid = shape.image_size // shape.patch_size
    patches = vision.embeddings.patch_embedding(pixels)
    rows, columns = patches.shape[2:]
    positions = vision.embeddings.position_embedding
    places = positions[:, 1:].unflatten(1, (grid, grid))
    places = places[:, corner[0] : corner[0] + rows, corner[1] : corner[1] + columns].flatten(1, 2)
    tokens = patches.flatten(2).transpose(1, 2) + places
    if kept is not None:
        tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[2]))
    first = (vision.embeddings.class_embedding + positions[:, :1]).expand(len(tokens), -1, -1)
    hidden = vision.encoder(inputs_embeds=torch.cat([first, tokens], dim=1)).last_hidden_state
    return vision.post_layernorm(hidden)


def match_logits(
    blip: BlipForImageTextRetrieval, embeds: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """ITM logits [B, N, 2] of N captions for each picture.

    Args:
        blip: the model.
        embeds: [B, 1 + P, E].
        ids: caption tokens, int64 [B, N, T].
        mask: 1 at tokens that are not padding, int64 [B, N, T].
    """
    captions = ids.shape[1]
    hidden = blip.text_encoder(
        input_ids=ids.flatten(0, 1),
        attention_mask=mask.flatten(0, 1),
        encoder_hidden_states=embeds.repeat_interleave(captions, dim=0),
    ).last_hidden_state
    return blip.itm_head(hidden[:, 0]).unflatten(0, (-1, captions))
