"""The captions of several images as arrays: what the passes and the class maps need of them."""

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

    Attributes:
        first: of length B + 1, on the host: the captions of image b are first[b] to first[b + 1].
        first_class: likewise its classes, C of all images; they stand in the captions' order.
        ids: int64 [N, T].
        mask: int64 [N, T], 0 for padding.
        first_caption: int32 [B + 1], `first` on the device.
        class_token: bool [N, T].
        members: int32 [M], the tokens n * T + t of each class after the other.
        first_member: int32 [C + 1].
        summed: bool [C], classes that are summed, not averaged, over their tokens.
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
        """Pad captions and send them to the device.

        Args:
            captioner: knows the id of padding.
            captions: of each image, at least one.
            device: where the arrays go.
            sum_last: sum over the tokens of each caption's last class.
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
        first = _running_total(len(own) for own in captions)
        send = device.xp.asarray
        return cls(
            first=first,
            first_class=_running_total(
                sum(len(caption.owners) for caption in own) for own in captions
            ),
            ids=send(ids),
            mask=send(mask),
            first_caption=send(np.array(first, np.int32)),
            class_token=send(class_token),
            members=send(np.array([*chain(*members)], np.int32)),
            first_member=send(np.array(_running_total(map(len, members)), np.int32)),
            summed=send(np.array(summed)),
        )


def _running_total(counts: Iterable[int]) -> list[int]:
    return list(accumulate(counts, initial=0))
