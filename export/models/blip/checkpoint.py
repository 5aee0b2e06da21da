"""Loads BLIP's checkpoints, and tells how their models read images and captions."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import BlipForImageTextRetrieval
from transformers.utils import logging as transformers_logging

from ....engine.errors import ModelError, reason
from ....engine.model.manifest import Preprocess, Text
from .. import wordpiece
from ..base import Checkpoint, CheckpointFiles, Choice
from . import original

PROMPT = "A picture of"
# Mean and standard deviation of red, green and blue in [0, 1]: CLIP's.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# Best cross-attention layer and head of BLIP-large, from the PnP-OVSS paper: layer 8, which is 7
# counted from 0, and head 9.
_BEST_LAYER, _BEST_HEAD = 7, 9
_TEXT_LAYERS, _TEXT_HEADS = 12, 12
# Layers and width of the image encoder; layers, heads and width of the text encoder.
_BLIP_LARGE = (24, 1024, _TEXT_LAYERS, _TEXT_HEADS, 768)

_NEEDED = ("vision_model.", "text_encoder.", "itm_head.")  # weights of image-text matching


def recognises(files: CheckpointFiles) -> bool:
    """Tell whether a checkpoint is BLIP's, in Hugging Face's or the original form."""
    return files.config.get("model_type") == "blip" or original.recognises(files.weights)


def load(files: CheckpointFiles, tokenizer: Path | None = None) -> Checkpoint:
    """Load a checkpoint of image-text matching.

    Args:
        files: files of the checkpoint: a Hugging Face folder, or an original `.pth` file.
        tokenizer: path of a `tokenizer.json`, a `vocab.txt`, or a folder with one of them, which
            replaces the checkpoint's tokenizer.

    Returns:
        The model, with its tokenizer.

    Raises:
        ModelError: the checkpoint cannot be read, or is no image-text-matching model.
    """
    notes: list[str] = []
    if files.weights:
        model, folder = original.load(files.weights, files.path), None
    else:
        model, folder = _load_folder(files.path), files.path
    words = _tokenizer(tokenizer, folder, model, notes)
    return Checkpoint(model.eval(), words, notes)


def cross_attention(model: BlipForImageTextRetrieval) -> tuple[int, int]:
    """Count the cross-attention layers of a model, and the heads of a layer."""
    text: Any = model.config.text_config
    return text.num_hidden_layers, text.num_attention_heads


def known_best(model: BlipForImageTextRetrieval) -> Choice:
    """Return the best cross-attention layer and head of a model, as far as they are known.

    They are known for BLIP-large (published for its Flickr checkpoint at 336 px). Any other model
    gets the layer and head at the same relative position, but never the last layer, which has no
    salience.
    """
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    layers, heads = text.num_hidden_layers, text.num_attention_heads
    layer, head = _BEST_LAYER * layers // _TEXT_LAYERS, _BEST_HEAD * heads // _TEXT_HEADS
    shape = (vision.num_hidden_layers, vision.hidden_size, layers, heads, text.hidden_size)
    return Choice((max(min(layer, layers - 2), 0),), (head,), known=shape == _BLIP_LARGE)


def preprocess(model: BlipForImageTextRetrieval) -> Preprocess:
    """Return how an image becomes an input: resized to a square, without keeping proportions."""
    config: Any = model.config.vision_config
    return Preprocess((config.image_size, config.image_size), config.patch_size, MEAN, STD)


def text(checkpoint: Checkpoint) -> Text:
    """Return how captions become tokens for a model.

    The first token, [ENC], is the tokenizer's. A tokenizer without [ENC] gets the id after [DEC]'s.

    Raises:
        ModelError: the model has no embedding for [ENC].
    """
    config: Any = checkpoint.model.config.text_config
    enc_id = checkpoint.tokenizer.token_to_id("[ENC]")
    if enc_id is None:
        dec_id = config.vocab_size if config.bos_token_id is None else config.bos_token_id
        enc_id = dec_id + 1
    if enc_id >= config.vocab_size:
        raise ModelError(
            f"the token [ENC] would have id {enc_id}, but the model's vocabulary has"
            f" {config.vocab_size} entries",
            "give a tokenizer with an [ENC] token: --tokenizer tokenizer.json",
        )
    return Text(
        tokenizer="wordpiece",
        prompt=PROMPT,
        joiner=" ",
        lowercase=True,
        first_id=enc_id,
        last_id=wordpiece.special_id(checkpoint.tokenizer, "[SEP]"),
        pad_id=wordpiece.special_id(checkpoint.tokenizer, "[PAD]"),
        unknown="[UNK]",
        context=config.max_position_embeddings,
    )


def resize(model: BlipForImageTextRetrieval, sides: tuple[int, int]) -> None:
    """Change the input size of a model to (height, width) in pixels, in place.

    The image encoder's position embeddings are interpolated, bicubically.

    Raises:
        ModelError: height and width differ, or are no multiple of the patch size.
    """
    encoder: Any = model.vision_model
    patch, image_size = encoder.config.patch_size, sides[0]
    if sides[0] != sides[1]:
        raise ModelError(
            f"image size {sides[0]}x{sides[1]} is not square",
            "BLIP takes square inputs: --image-size 336",
        )
    if image_size < patch or image_size % patch:
        nearest = max(1, round(image_size / patch)) * patch
        raise ModelError(
            f"image size {image_size} is not a multiple of the model's patch size {patch}",
            f"take the nearest multiple: --image-size {nearest}",
        )
    grid = image_size // patch
    old = encoder.embeddings.position_embedding.detach()
    side = round((old.shape[1] - 1) ** 0.5)
    if grid != side:
        patches = old[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        patches = nn.functional.interpolate(
            patches, size=(grid, grid), mode="bicubic", align_corners=False
        )
        new = torch.cat([old[:, :1], patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
        encoder.embeddings.position_embedding = nn.Parameter(new)
    encoder.config.image_size = image_size


def _load_folder(folder: Path) -> BlipForImageTextRetrieval:
    """Load a model from a Hugging Face folder.

    Raises:
        ModelError: the folder cannot be loaded, or lacks weights.
    """
    model, loading = _from_pretrained(folder)
    missing = [
        key
        for key in (*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"]))
        if key.startswith(_NEEDED)
    ]
    if missing:
        raise ModelError(
            f"'{folder}' lacks {len(missing)} weights of the image-text-matching branch,"
            f" among them {sorted(missing)[0]!r}",
            "it is damaged, or another kind of BLIP (captioning, VQA): take a checkpoint such as"
            " Salesforce/blip-itm-large-flickr",
        )
    _check_shape(model)
    return model


def _from_pretrained(folder: Path) -> tuple[BlipForImageTextRetrieval, dict[str, Any]]:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        loaded: Any = BlipForImageTextRetrieval.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32, local_files_only=True
        )
        return loaded
    except Exception as error:  # raised for the weights' format, the configuration, ...
        raise ModelError(
            f"'{folder}' cannot be loaded: {reason(error)}",
            "the checkpoint is incomplete or damaged: save or download it again",
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _check_shape(model: BlipForImageTextRetrieval) -> None:
    """Check that a model has the structure that the graphs assume.

    Raises:
        ModelError: the model lacks cross-attention, GELU or square inputs.
    """
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    if not text.is_decoder:
        raise ModelError(
            "the checkpoint's text encoder has no cross-attention",
            "take an image-text-matching checkpoint, such as Salesforce/blip-itm-large-flickr",
        )
    for name, config in (("image", vision), ("text", text)):
        if config.hidden_act != "gelu":
            raise ModelError(
                f"the {name} encoder's activation is {config.hidden_act!r}",
                "only 'gelu' can be exported; every published BLIP uses it",
            )
    for name in ("image_size", "patch_size"):
        if not isinstance(getattr(vision, name), int):
            raise ModelError(
                f"{name} of the checkpoint is {getattr(vision, name)}",
                "take a checkpoint of a square image size",
            )


def _tokenizer(
    given: Path | None, folder: Path | None, model: BlipForImageTextRetrieval, notes: list[str]
) -> Tokenizer:
    """Return the given tokenizer, else the checkpoint's, else BERT's if it fits.

    Args:
        given: path of a tokenizer that the user gave.
        folder: folder of the checkpoint.
        model: model that the tokenizer is for.
        notes: messages to the user, to which this function adds.

    Raises:
        ModelError: the tokenizer cannot be read, or does not fit the model.
    """
    config: Any = model.config.text_config
    size = config.vocab_size
    source = given or folder
    chosen = wordpiece.read(source) if source else None
    if chosen is None and given:
        raise ModelError(
            f"no tokenizer at '{given}'",
            "give a tokenizer.json or a vocab.txt: --tokenizer vocab.txt",
        )
    if chosen is None:
        if size not in wordpiece.BERT_SIZES:
            raise ModelError(
                f"the checkpoint has no tokenizer, and its vocabulary of {size} is not BERT's",
                "give the tokenizer of the model: --tokenizer vocab.txt (or a tokenizer.json)",
            )
        chosen = wordpiece.bert()
        notes.append("the checkpoint has no tokenizer: took BERT's uncased tokenizer, as BLIP does")
    wordpiece.check(chosen, size)
    chosen.no_padding()
    chosen.no_truncation()
    return chosen
