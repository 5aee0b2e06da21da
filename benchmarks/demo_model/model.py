"""Makes the demo model before training: BLIP for image-text matching, with a small vocabulary."""

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
    """Make an uncased WordPiece tokenizer of the class names; `PIECES` splits some words."""
    words = sorted({word for name in CLASSES for word in name.split()})
    pieces = [piece for word in words for piece in PIECES.get(word, (word,))]
    return word_piece(
        "\n".join(dict.fromkeys((*_SPECIAL, *PROMPT.lower().split(), *pieces, "[DEC]", "[ENC]")))
    )


def new_blip(words: Tokenizer) -> BlipForImageTextRetrieval:
    """Make a small BLIP with initial weights.

    Args:
        words: Tokenizer of the model.
    """
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
    """Make the captioner that the exported model has.

    Args:
        words: Tokenizer of the model.
    """
    ids = words.get_vocab()
    first, last, padding = (ids[token] for token in ("[ENC]", "[SEP]", "[PAD]"))
    length = TEXT["max_position_embeddings"]
    return Captioner(
        words, Text("wordpiece", PROMPT, " ", True, first, last, padding, "[UNK]", length)
    )


class WordPatchLogits(nn.Module):
    """Scores each patch for each class name; it is trained with the model, and not exported.

    Trained by image-text matching alone, a new model stays at chance for long. A multi-label loss
    on these logits, for a whole image, gets it started. The names are read from the word embeddings
    of captions, so that queries and keys of the cross-attention begin alike.

    Args:
        blip: Model that is trained.
        words: Tokenizer of the model.
    """

    average: torch.Tensor

    def __init__(self, blip: BlipForImageTextRetrieval, words: Tokenizer) -> None:
        super().__init__()
        text: Any = blip.config.text_config
        vision: Any = blip.config.vision_config
        self.project = nn.Linear(vision.hidden_size, text.hidden_size)
        self.bias = nn.Parameter(torch.tensor(-2.0))
        average = torch.zeros(len(CLASSES), words.get_vocab_size())
        for row, name in zip(average, CLASSES, strict=True):
            ids = words.encode(name, add_special_tokens=False).ids
            row[ids] = 1 / len(ids)
        self.register_buffer("average", average, persistent=False)

    def forward(self, embeddings: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """Score patches.

        Args:
            embeddings: Word embeddings of the text encoder, float32 [V, D].
            patches: Patch embeddings of the image encoder, float32 [B, P, E].

        Returns:
            Logits of each patch and class, float32 [B, P, C].
        """
        names = nn.functional.layer_norm(self.average @ embeddings, embeddings.shape[1:])
        return self.project(patches) @ names.T / names.shape[1] ** 0.5 + self.bias


def encode_image(
    blip: BlipForImageTextRetrieval,
    pixels: torch.Tensor,
    patch_indices: torch.Tensor | None = None,
    corner: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    """Encode images, or some of their patches.

    Args:
        blip: Model with the image encoder.
        pixels: Normalized pixels, float32 [B, 3, H, W]; H and W are multiples of the patch size,
            and at most the model's image size.
        patch_indices: Indices of the patches to encode, int64 [B, N]; by default all.
        corner: Row and column of the first patch in the grid of position embeddings.

    Returns:
        Embeddings of [CLS] and of the N patches, float32 [B, 1 + N, E].
    """
    vision = blip.vision_model
    shape: Any = blip.config.vision_config
    grid = shape.image_size // shape.patch_size
    patches = vision.embeddings.patch_embedding(pixels)
    rows, columns = patches.shape[2:]
    positions = vision.embeddings.position_embedding
    row, column = corner
    added = positions[:, 1:].unflatten(1, (grid, grid))
    added = added[:, row : row + rows, column : column + columns].flatten(1, 2)
    tokens = patches.flatten(2).transpose(1, 2) + added
    if patch_indices is not None:
        tokens = tokens.gather(1, patch_indices[..., None].expand(-1, -1, tokens.shape[2]))
    first = (vision.embeddings.class_embedding + positions[:, :1]).expand(len(tokens), -1, -1)
    hidden = vision.encoder(inputs_embeds=torch.cat([first, tokens], dim=1)).last_hidden_state
    return vision.post_layernorm(hidden)


def match_logits(
    blip: BlipForImageTextRetrieval, embeds: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Match each image with its captions.

    Args:
        blip: Model with the matching branch.
        embeds: Image embeddings, float32 [B, 1 + P, E].
        ids: Token ids of N captions of each image, int64 [B, N, T].
        mask: 1 at tokens that are not padding, int64 [B, N, T].

    Returns:
        ITM logits of each caption, float32 [B, N, 2]; index 1 is a match.
    """
    captions = ids.shape[1]
    hidden = blip.text_encoder(
        input_ids=ids.flatten(0, 1),
        attention_mask=mask.flatten(0, 1),
        encoder_hidden_states=embeds.repeat_interleave(captions, dim=0),
    ).last_hidden_state
    return blip.itm_head(hidden[:, 0]).unflatten(0, (-1, captions))
