"""Steps 1 to 5 of the method, from names and pixels to class maps, in float64 PyTorch and autograd.

Written from the description of the method (`engine/METHOD.md`) and from nothing else, to hold the
engine to it. One image at a time; the model is Hugging Face's; speed does not count.
"""

import re
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])  # CLIP's, which BLIP uses
STD = np.array([0.26862954, 0.26130258, 0.27577711])
PROMPT = "a picture of"


def word_pieces(text, vocabulary):
    """WordPiece: split at spaces and punctuation, then the longest known piece from the left."""
    pieces = []
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in vocabulary:
                    break
            else:
                raise KeyError(word)
            pieces.append(vocabulary[piece])
            start = end
    return pieces


def caption(classes, vocabulary, encode_id):
    """Steps 1 and 2: the ids of the caption, and the places of each class's word pieces in it."""
    ids = [encode_id, *word_pieces(PROMPT, vocabulary)]
    places = []
    for name in classes:
        pieces = word_pieces(name, vocabulary)
        places.append(list(range(len(ids), len(ids) + len(pieces))))
        ids += pieces
    return [*ids, vocabulary["[SEP]"]], places


def joined(name):
    """A class name as the authors' script writes it: one word."""
    return re.sub(r"[\s-]", "", name)


def pixels(image, side):
    """Step 3: [3, side, side], Pillow's bicubic, lines first, CLIP's mean and deviation."""
    lines = image.convert("RGB").resize((side, image.height), Image.Resampling.BICUBIC)
    square = np.asarray(lines.resize((side, side), Image.Resampling.BICUBIC))
    return ((square / 255 - MEAN) / STD).transpose(2, 0, 1)


@contextmanager
def _captured(model, layer):
    attention = []
    dropout = model.text_encoder.encoder.layer[layer].crossattention.self.dropout
    handle = dropout.register_forward_hook(lambda module, given, out: attention.append(out))
    try:
        yield attention
    finally:
        handle.remove()


def salience(model, values, ids, layer, head):
    """S [T, P] = A * max(dm/dA, 0), of one layer and head, and the match probability."""
    tensor = torch.tensor(values, dtype=torch.float64, requires_grad=True)[None]
    with _captured(model, layer) as captured:
        embeds = model.vision_model(tensor, interpolate_pos_encoding=True).last_hidden_state
        states = model.text_encoder(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            encoder_hidden_states=embeds,
            encoder_attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
        ).last_hidden_state
        logits = model.itm_head(states[:, 0])[0]
    (attention,) = captured
    (gradient,) = torch.autograd.grad(logits[1], attention)
    result = (attention * gradient.clamp(min=0))[0, head, :, 1:]
    return result.detach().numpy(), logits.softmax(dim=0)[1].item()


def best_patches(scores, there, count):
    """The `count` highest-scoring patches still there; of equals the lower index first."""
    order = sorted(np.flatnonzero(there), key=lambda patch: (-scores[patch], patch))
    return order[:count]


def class_maps(
    model, image, classes, vocabulary, *, encode_id, layer, head, side, patch, preset, passes=4
):
    """Steps 1 to 5: class maps [C, p, p] and the match probability of each pass."""
    names = [joined(name) for name in classes] if preset == "released" else classes
    ids, places = caption(names, vocabulary, encode_id)
    tokens = sorted(place for some in places for place in some)
    grid = side // patch
    values = pixels(image, side)
    there = np.ones(grid * grid, bool)
    total = np.zeros((len(ids), grid * grid))
    match = []
    for index in range(passes):
        shown = np.where(_on_pixels(there, grid, patch), values, 0)
        found, probability = salience(model, shown, ids, layer, head)
        found = np.where(there, found, 0)
        total += found * (2 if preset == "released" and index == 0 else 1)
        match.append(probability)
        count = 10 if preset == "released" else there.sum() // 2
        there[best_patches(found[tokens].sum(axis=0), there, count)] = False
    maps = np.stack([total[some].mean(axis=0) for some in places])
    if preset == "released":
        maps[-1] *= len(places[-1])
    return maps.reshape(len(places), grid, grid), match


def _on_pixels(patches, grid, patch):
    return patches.reshape(grid, grid).repeat(patch, axis=0).repeat(patch, axis=1)
