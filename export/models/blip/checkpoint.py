"""BLIP's checkpoints: what is loaded, and what is known of the family."""

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
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of red, green, blue in [0, 1]: CLIP's
STD = (0.26862954, 0.26130258, 0.27577711)

# Where BLIP-large is read: layer 8 and head 9 of the paper, which counts layers from 1 (PnP-OVSS).
_BEST_LAYER, _BEST_HEAD = 7, 9
_TEXT_LAYERS, _TEXT_HEADS = 12, 12
_BLIP_LARGE = (24, 1024, _TEXT_LAYERS, _TEXT_HEADS, 768)  # image encoder, then text encoder

_NEEDED = ("vision_model.", "text_encoder.", "itm_head.")  # what image-text matching runs on


def recognises(files: CheckpointFiles) -> bool:
    """Whether a checkpoint is BLIP's: Hugging Face's, or an original one."""
    return files.config.get("model_type") == "blip" or original.recognises(files.weights)


def load(files: CheckpointFiles, tokenizer: Path | None = None) -> Checkpoint:
    """Load a checkpoint of image-text matching.

    Args:
        files: of a Hugging Face folder, or an original `.pth` file.
        tokenizer: a `tokenizer.json`, a `vocab.txt`, or a folder with one, in place of the
            checkpoint's own.

    Raises:
        ModelError: it cannot be read, or is no image-text-matching model.
    """
    notes: list[str] = []
    if files.weights:
        model, folder = original.load(files.weights, files.path), None
    else:
        model, folder = _load_folder(files.path), files.path
    words = _tokenizer(tokenizer, folder, model, notes)
    return Checkpoint(model.eval(), words, notes)


def cross_attention(model: BlipForImageTextRetrieval) -> tuple[int, int]:
    """How many cross-attention layers a model has, and heads in each."""
    text: Any = model.config.text_config
    return text.num_hidden_layers, text.num_attention_heads


def known_best(model: BlipForImageTextRetrieval) -> Choice:
    """The cross-attention layer and head to read, and whether they are known to be the best.

    They are known for BLIP-large (published for its Flickr checkpoint at 336 px). For any other
    model the same relative place is taken, but for the last layer, which has no salience.
    """
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    layers, heads = text.num_hidden_layers, text.num_attention_heads
    layer, head = _BEST_LAYER * layers // _TEXT_LAYERS, _BEST_HEAD * heads // _TEXT_HEADS
    shape = (vision.num_hidden_layers, vision.hidden_size, layers, heads, text.hidden_size)
    return Choice((max(min(layer, layers - 2), 0),), (head,), known=shape == _BLIP_LARGE)


def preprocess(model: BlipForImageTextRetrieval) -> Preprocess:
    """How an image becomes an input: a square, whatever its proportions."""
    config: Any = model.config.vision_config
    return Preprocess((config.image_size, config.image_size), config.patch_size, MEAN, STD)


def text(checkpoint: Checkpoint) -> Text:
    """How captions are written for a model. [ENC] is the tokenizer's own, else follows [DEC].

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
            "give a tokenizer with an [ENC] token: --tokenizer",
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
    """Make a model take images of another height and width in pixels, in place.

    The image encoder's position embeddings are interpolated.

    Raises:
        ModelError: the sides differ, or the patch size does not divide them.
    """
    encoder: Any = model.vision_model
    patch, image_size = encoder.config.patch_size, sides[0]
    if sides[0] != sides[1]:
        raise ModelError(f"image size {sides[0]}x{sides[1]}", "BLIP takes squares only")
    if image_size < patch or image_size % patch:
        near = max(1, round(image_size / patch)) * patch
        raise ModelError(
            f"image size {image_size} is not a multiple of the model's patch size {patch}",
            f"use for example --image-size {near}",
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
    model, loading = _from_pretrained(folder)
    lost = [
        key
        for key in (*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"]))
        if key.startswith(_NEEDED)
    ]
    if lost:
        raise ModelError(
            f"'{folder}' lacks {len(lost)} weights of the image-text-matching branch,"
            f" among them {sorted(lost)[0]!r}",
            "it is damaged, or another kind of BLIP (captioning, VQA): take a blip-itm checkpoint",
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
    except Exception as error:  # of many kinds, from the weight format up to the configuration
        raise ModelError(
            f"'{folder}' cannot be loaded: {reason(error)}",
            "the checkpoint is incomplete or damaged: save or download it again",
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)


def _check_shape(model: BlipForImageTextRetrieval) -> None:
    vision: Any = model.config.vision_config
    text: Any = model.config.text_config
    if not text.is_decoder:
        raise ModelError("the checkpoint's text encoder has no cross-attention", "take an ITM one")
    for name, config in (("image", vision), ("text", text)):
        if config.hidden_act != "gelu":
            raise ModelError(
                f"the {name} encoder's activation is {config.hidden_act!r}",
                "only gelu, which every published BLIP uses, can be exported",
            )
    for name in ("image_size", "patch_size"):
        if not isinstance(getattr(vision, name), int):
            raise ModelError(f"{name} is {getattr(vision, name)}", "only square images can be used")


def _tokenizer(
    given: Path | None, own: Path | None, model: BlipForImageTextRetrieval, notes: list[str]
) -> Tokenizer:
    """The tokenizer that was given, else the checkpoint's own, else BERT's where it fits."""
    config: Any = model.config.text_config
    size = config.vocab_size
    source = given or own
    found = wordpiece.read(source) if source else None
    if found is None and given:
        raise ModelError(f"no tokenizer at '{given}'", "give a tokenizer.json or a vocab.txt")
    if found is None:
        if size not in wordpiece.BERT_SIZES:
            raise ModelError(
                f"the checkpoint has no tokenizer, and its vocabulary of {size} is not BERT's",
                "name one with --tokenizer (a tokenizer.json or a vocab.txt)",
            )
        found = wordpiece.bert()
        notes.append("the checkpoint has no tokenizer: took BERT's uncased one, as BLIP does")
    wordpiece.check(found, size)
    found.no_padding()
    found.no_truncation()
    return found
