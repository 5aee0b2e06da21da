"""Lay out the captions of several images as arrays, and join what was found by their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np

from ...device import Array, Device
from ...inputs.text import Captioner, CaptionTokens


@dataclass(frozen=True)
class CaptionBatch:
    """N captions of B images, padded to T tokens, on a device.

    Each of the C names in them has a map of its own; `largest_of_names` makes those of the classes.

    Attributes:
        first: index of each image's first caption, B + 1 numbers on the host. Image b has the
            captions first[b] to first[b + 1] - 1.
        first_class: index of each image's first name, B + 1 numbers on the host. The C names of all
            images are in the order of their captions.
        ids: token ids, int64 [N, T].
        mask: attention mask, int64 [N, T]; 0 for padding.
        first_caption: `first` on the device, int32 [B + 1].
        class_token: whether a token belongs to a class name, bool [N, T].
        members: tokens of the names, one name after the other, as n * T + t; int32 [M].
        first_member: index in `members` of each name's first token, int32 [C + 1].
        summed: whether a name is summed, not averaged, over its tokens; bool [C].
    """

    first: list[int]
    first_class: list[int]
    ids: Array
    mask: Array
    first_caption: Array
    class_token: Array
    members: Array
    first_member: Array
    summed: Array

    @classmethod
    def of(
        cls,
        captioner: Captioner,
        captions: Sequence[Sequence[CaptionTokens]],
        device: Device,
        *,
        sum_last: bool = False,
    ) -> CaptionBatch:
        """Pad captions and send them to a device.

        Args:
            captioner: captioner of the model, which knows the token of padding.
            captions: captions of each image, one at least.
            device: device of the arrays.
            sum_last: whether the last name of each caption is summed over its tokens.
        """
        rows = list(chain(*captions))
        ids, mask = captioner.pad(rows)
        class_token = np.zeros(ids.shape, bool)
        members: list[list[int]] = []
        summed: list[bool] = []
        for row, caption in enumerate(rows):
            for _, tokens in caption.owners:
                class_token[row, tokens] = True
                members.append([row * ids.shape[1] + token for token in tokens])
                summed.append(False)
            summed[-1] = sum_last
        first = _running_total(map(len, captions))
        send = device.xp.asarray
        return cls(
            first=first,
            first_class=_running_total(
                sum(len(caption.owners) for caption in of_image) for of_image in captions
            ),
            ids=send(ids),
            mask=send(mask),
            first_caption=send(np.array(first, np.int32)),
            class_token=send(class_token),
            members=send(np.array([*chain(*members)], np.int32)),
            first_member=send(np.array(_running_total(map(len, members)), np.int32)),
            summed=send(np.array(summed)),
        )


def largest_of_names(values: Array, captions: Sequence[CaptionTokens], device: Device) -> Array:
    """Make the values of classes from those of their names: the largest, element by element.

    Args:
        values: values of each name of an image, [names, ...], on the device.
        captions: captions of the image, which tell in the same order whose the names are.
        device: device of the values.

    Returns:
        Values of each class in the captions, [classes, ...]; `values` itself where each class has
        one name.
    """
    owners = [index for caption in captions for index, _ in caption.owners]
    _, first, counts = np.unique(owners, return_index=True, return_counts=True)
    if len(first) == len(owners):
        return values
    largest = values[first]
    for place in range(1, counts.max()):
        longer = np.flatnonzero(counts > place)
        largest[longer] = device.xp.maximum(largest[longer], values[first[longer] + place])
    return largest


def _running_total(counts: Iterable[int]) -> list[int]:
    return list(accumulate(counts, initial=0))
