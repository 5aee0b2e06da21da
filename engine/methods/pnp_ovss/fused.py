"""Make the inputs of a fused graph from class names, and join what it gives for synonyms.

A fused graph, `onnx/segment.onnx`, is the whole method in one file, for hosts without this package.
The engine does not run it. Only NumPy and the model's tokenizer are needed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import InputError, shown
from ...inputs.names import Classes, clean_names, names_of
from ...inputs.text import Captioner, CaptionTokens
from ...model.folder import ModelFolder
from ...settings import Settings


def caption_inputs(
    model: ModelFolder | Captioner, classes_of_images: Sequence[Classes], settings: Settings
) -> dict[str, npt.NDArray[Any]]:
    """Make the caption inputs of a fused graph for a batch of images.

    Args:
        model: model folder; or its captioner, which saves reading the tokenizer each time.
        classes_of_images: classes of each of the B images, as `Segmenter.segment` takes them. Of a
            class of several names each name has a row; see `join_names`. The labels of a graph
            with an output size then number names, not classes.
        settings: settings of the graph, of which `join_words` and `sum_last_class` matter.

    Returns:
        `input_ids` and `attention_mask`, int64 [B, T], padded to the longest caption. And
        `class_tokens`, float32 [B, N, T], the weight of each token in the map of each name, padded
        with zeros to the most names.

    Raises:
        InputError: a name cannot be used, or the names of an image do not fit into one caption.
        ModelError: the tokenizer of the folder cannot be read.
    """
    if not len(classes_of_images):
        raise InputError("no image has classes", "give a list of classes for each image")
    captioner = model if isinstance(model, Captioner) else Captioner.load(model)
    captions = [_caption(captioner, classes, settings) for classes in classes_of_images]
    ids, mask = captioner.pad(captions)
    most = max(len(caption.owners) for caption in captions)
    class_tokens = np.zeros((len(captions), most, ids.shape[1]), np.float32)
    for of_names, caption in zip(class_tokens, captions, strict=True):
        for weights, (_, tokens) in zip(of_names, caption.owners, strict=False):
            weights[tokens] = 1 / len(tokens)
        if settings.sum_last_class:
            of_names[len(caption.owners) - 1, caption.owners[-1][1]] = 1
    return {"input_ids": ids, "attention_mask": mask, "class_tokens": class_tokens}


def join_names(class_maps: npt.NDArray[np.float32], classes: Classes) -> npt.NDArray[np.float32]:
    """Make the maps of an image's classes from those of their names: the largest at each patch.

    Args:
        class_maps: maps of one image by a fused graph, float32 [N, gh, gw], of padding too.
        classes: classes of the image, as they were given to `caption_inputs`.

    Returns:
        Class maps, float32 [C, gh, gw].

    Raises:
        InputError: there are fewer maps than names.
    """
    counts = [len(names_of(one)) for one in clean_names(classes)]
    if len(class_maps) < sum(counts):
        raise InputError(
            f"{len(class_maps)} class maps for {sum(counts)} names",
            "give the maps of one image, and the classes that its caption was made of",
        )
    first = [0, *accumulate(counts)][:-1]
    return np.maximum.reduceat(class_maps[: sum(counts)], first, axis=0)


def _caption(captioner: Captioner, classes: Classes, settings: Settings) -> CaptionTokens:
    """Write the one caption of an image.

    Raises:
        InputError: a name cannot be used, two are read alike, or they do not fit into one caption.
    """
    cleaned = clean_names(classes)
    captioner.write_each(cleaned, join=settings.join_words)  # refuses names that are read alike
    captions = captioner.write(cleaned, join=settings.join_words)
    if len(captions) > 1:
        fitting = len(captions[0].owners)
        names = [name for one in cleaned for name in names_of(one)]
        raise InputError(
            f"a fused graph takes one caption, and only {fitting} of {len(names)} names fit into"
            f" it, those before {shown(names[fitting])}",
            "name fewer classes at a time; Segmenter and pnp-ovss segment take any number",
        )
    return captions[0]
