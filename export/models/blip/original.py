"""Loads original BLIP checkpoints (`model_*_retrieval_*.pth`) under Hugging Face's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import BlipConfig, BlipForImageTextRetrieval

from ....engine.errors import ModelError, reason

_HEAD_WIDTH = 64  # width of a head in every ViT and BERT that BLIP was published with
_VISION_EPS = 1e-6  # epsilon of BLIP's LayerNorm; Hugging Face's configuration says 1e-5

# Weights that only training reads: momentum encoders, queues of negatives, the contrastive
# temperature. And a buffer of the positions 0, 1, 2, ...
_UNUSED = re.compile(
    r"(visual_encoder|text_encoder|vision_proj|text_proj)_m\..+"
    r"|image_queue|text_queue|idx_queue|queue_ptr|ptr_queue|temp"
    r"|text_encoder\.embeddings\.position_ids"
)
_RENAMES = (
    (r"visual_encoder\.cls_token", "vision_model.embeddings.class_embedding"),
    (r"visual_encoder\.pos_embed", "vision_model.embeddings.position_embedding"),
    (r"visual_encoder\.patch_embed\.proj\.(.+)", r"vision_model.embeddings.patch_embedding.\1"),
    (r"visual_encoder\.norm\.(.+)", r"vision_model.post_layernorm.\1"),
    (
        r"visual_encoder\.blocks\.(\d+)\.norm([12])\.(.+)",
        r"vision_model.encoder.layers.\1.layer_norm\2.\3",
    ),
    (
        r"visual_encoder\.blocks\.(\d+)\.attn\.qkv\.(.+)",
        r"vision_model.encoder.layers.\1.self_attn.qkv.\2",
    ),
    (
        r"visual_encoder\.blocks\.(\d+)\.attn\.proj\.(.+)",
        r"vision_model.encoder.layers.\1.self_attn.projection.\2",
    ),
    (r"visual_encoder\.blocks\.(\d+)\.mlp\.(.+)", r"vision_model.encoder.layers.\1.mlp.\2"),
    (r"((?:text_encoder|vision_proj|text_proj|itm_head)\..+)", r"\1"),
)


def recognises(weights: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether weights have the keys of an original BLIP checkpoint."""
    return any(key.startswith("visual_encoder.") for key in weights) and any(
        key.startswith("text_encoder.encoder.layer.0.crossattention.") for key in weights
    )


def load(weights: Mapping[str, torch.Tensor], path: Path) -> BlipForImageTextRetrieval:
    """Make a model of original weights; every weight is used, or known to serve training only.

    Args:
        weights: weights of the checkpoint, by their original keys.
        path: path of the checkpoint, for error messages.

    Raises:
        ModelError: keys are unknown or missing, or the weights' shapes fit no model.
    """
    try:
        renamed = rename(weights, path)
        model = BlipForImageTextRetrieval(_config(renamed))
        missing = model.state_dict().keys() - renamed.keys()
        if missing:
            raise KeyError(sorted(missing)[0])
        model.load_state_dict(renamed, assign=True)
    except ModelError:
        raise
    except Exception as error:  # raised for shapes and types that fit no model
        raise ModelError(
            f"'{path}' is no image-text-matching checkpoint of BLIP: {reason(error)}",
            "take a retrieval checkpoint, such as model_large_retrieval_flickr.pth",
        ) from error
    return model


def rename(weights: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Rename weights to Hugging Face's keys, and leave out weights that only training reads.

    Args:
        weights: weights of the checkpoint, by their original keys.
        path: path of the checkpoint, for error messages.

    Raises:
        ModelError: a key is unknown.
    """
    renamed: dict[str, torch.Tensor] = {}
    unknown: list[str] = []
    for key, value in weights.items():
        renamed_key = next(
            (match.expand(new) for old, new in _RENAMES if (match := re.fullmatch(old, key))),
            None,
        )
        if _UNUSED.fullmatch(key):
            continue
        if renamed_key is None:
            unknown.append(key)
        else:
            renamed[renamed_key] = value.float()
    if unknown:
        raise ModelError(
            f"'{path}' has {len(unknown)} keys that no BLIP retrieval checkpoint has,"
            f" among them {unknown[0]!r}",
            "take a retrieval checkpoint, such as model_large_retrieval_flickr.pth",
        )
    return renamed


def _config(weights: dict[str, torch.Tensor]) -> BlipConfig:
    """Read the configuration of a model off the shapes of its weights."""
    positions = weights["vision_model.embeddings.position_embedding"]
    patch_embedding = weights["vision_model.embeddings.patch_embedding.weight"]
    words = weights["text_encoder.embeddings.word_embeddings.weight"]
    width, patch = patch_embedding.shape[0], patch_embedding.shape[-1]
    return BlipConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": weights["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": _depth(weights, "vision_model.encoder.layers."),
            "num_attention_heads": width // _HEAD_WIDTH,
            "image_size": round((positions.shape[1] - 1) ** 0.5) * patch,
            "patch_size": patch,
            "layer_norm_eps": _VISION_EPS,
        },
        text_config={
            "vocab_size": words.shape[0],
            "hidden_size": words.shape[1],
            "encoder_hidden_size": width,
            "intermediate_size": weights[
                "text_encoder.encoder.layer.0.intermediate.dense.weight"
            ].shape[0],
            "num_hidden_layers": _depth(weights, "text_encoder.encoder.layer."),
            "num_attention_heads": words.shape[1] // _HEAD_WIDTH,
            "max_position_embeddings": weights[
                "text_encoder.embeddings.position_embeddings.weight"
            ].shape[0],
            "bos_token_id": words.shape[0] - 2,  # [DEC]; the vocabulary ends with [DEC], [ENC]
        },
        image_text_hidden_size=weights["vision_proj.weight"].shape[0],
    )


def _depth(weights: dict[str, torch.Tensor], prefix: str) -> int:
    """Count the layers whose keys begin with a prefix."""
    return 1 + max(int(k[len(prefix) :].split(".")[0]) for k in weights if k.startswith(prefix))
