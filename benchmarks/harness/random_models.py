"""Makes BLIP models of any shape with random weights.

Time and exactness do not depend on training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

if TYPE_CHECKING:  # shapes are known without PyTorch
    from transformers import BlipForImageTextRetrieval, PreTrainedTokenizerFast

# BERT-base text encoder over ViT-L/16, as in BLIP-large ITM: 446 M parameters with the ITC heads
BLIP_LARGE = {
    "vision": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 384,
    },
    "text": {"num_attention_heads": 12},
}

BLIP_TINY = {
    "vision": {
        "hidden_size": 96,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 64,
    },
    "text": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    },
}

# BLIP-base ITM: the same text encoder over ViT-B/16
BLIP_BASE = {
    "vision": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 384,
    },
    "text": {"num_attention_heads": 12},
}

# With this seed, a model of BLIP-large's shape has salience on some patches and not on all.
SEED = 1
SHAPES = {"blip-tiny": BLIP_TINY, "blip-base": BLIP_BASE, "blip-large": BLIP_LARGE}


def random_blip(
    vision: Mapping[str, object],
    text: Mapping[str, object],
    *,
    seed: int = 0,
) -> BlipForImageTextRetrieval:
    """Make a model whose attention and gradients are far from uniform, as in a trained model.

    Args:
        vision: Fields of `BlipVisionConfig`.
        text: Fields of `BlipTextConfig`.
        seed: Seed of the weights.
    """
    import torch
    from transformers import BlipConfig, BlipForImageTextRetrieval

    torch.manual_seed(seed)
    model = BlipForImageTextRetrieval(
        BlipConfig(vision_config=dict(vision), text_config=dict(text))
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=1 / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def save_checkpoint(model: BlipForImageTextRetrieval, tokenizer: Tokenizer, folder: Path) -> None:
    """Save a model and its tokenizer as a checkpoint that `pnp-ovss export` takes.

    Args:
        model: BLIP model.
        tokenizer: WordPiece tokenizer of the model.
        folder: Folder to make, in Hugging Face's format; it appears once it is complete.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    model.save_pretrained(partial)
    transformers_tokenizer(tokenizer).save_pretrained(partial)
    partial.replace(folder)


def transformers_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Wrap a WordPiece tokenizer for Transformers; it puts captions between [CLS] and [SEP]."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    wrapped = Tokenizer.from_str(tokenizer.to_str())
    wrapped.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, wrapped.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=wrapped,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    )
