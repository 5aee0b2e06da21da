"""Write class names as the tokens of captions, and tell which tokens belong to which class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ..errors import InputError, ModelError, reason, shown
from ..model.folder import ModelFolder
from ..model.manifest import TOKENIZER, Text
from .names import CleanClass, folded, names_of


@dataclass(frozen=True)
class CaptionTokens:
    """One caption of one image.

    Attributes:
        ids: token ids, those that open and close a caption included.
        owners: for each name in the caption, the index of its class in the caller's list, and the
            positions of the name's word pieces in `ids`.
    """

    ids: list[int]
    owners: list[tuple[int, list[int]]]


def _is_of_library(error: BaseException) -> bool:
    """Tell an error of `tokenizers`: a bare Exception, or a panic of Rust, which is none."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


_PROBES = ("cat", "potted plant", "hot-dog", "Zebra")


class Captioner:
    """Write captions for one model.

    A caption is the prompt and then class names: `A picture of cat dog`. Classes are taken in the
    order given, each with all its names. A name that no longer fits in the model's context opens
    the next caption; no name is split. Each name is encoded by itself, after the joiner, and must
    have the same ids in a sentence.

    Args:
        tokenizer: tokenizer of the model.
        text: prompt, joiner and special tokens of the model, from its manifest.
        known: the only names that the model was taught; empty where it takes any.

    Raises:
        ModelError: the prompt cannot be written, or a name has other ids in a sentence.
    """

    def __init__(self, tokenizer: Tokenizer, text: Text, known: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._text = text
        self._known = known
        self._known_forms = set(map(folded, known))
        unknown = None if text.unknown is None else tokenizer.token_to_id(text.unknown)
        self._barred = {unknown, text.first_id, text.last_id, text.pad_id}
        self._prompt = self._encode(text.prompt)
        if self._barred.intersection(self._prompt):
            raise ModelError(
                f"the prompt {text.prompt!r} cannot be written in this model's vocabulary",
                "export it again with the model's own tokenizer",
            )
        names = [text.joiner + name for name in _PROBES]
        apart = [*self._prompt, *(piece for name in names for piece in self._encode(name))]
        if apart != self._encode(text.prompt + "".join(names)):
            raise ModelError(
                "the tokenizer gives names other ids in a sentence than by themselves with"
                f" {text.joiner!r} before them",
                "export it again with the model's own tokenizer",
            )

    @classmethod
    def load(cls, model: ModelFolder) -> Captioner:
        """Read the tokenizer of a model folder.

        Raises:
            ModelError: the tokenizer cannot be read.
        """
        path = model.path / TOKENIZER
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except BaseException as error:
            if not _is_of_library(error):
                raise
            raise ModelError(
                f"'{path}' cannot be read: {reason(error)}", "export the model again"
            ) from error
        return cls(tokenizer, model.manifest.text, model.manifest.classes)

    def write(
        self,
        classes: Sequence[CleanClass],
        *,
        indices: Sequence[int] | None = None,
        join: bool = False,
    ) -> list[CaptionTokens]:
        """Write captions that together hold all names of all classes, in order.

        Args:
            classes: classes as `clean_names` returns them.
            indices: index of each class in the captions' `owners`; by default its position.
            join: whether each name is written as one word, without spaces and hyphens.

        Raises:
            InputError: a name has no word pieces, pieces that the vocabulary lacks, or more pieces
                than fit into a caption.
        """
        captions: list[CaptionTokens] = []
        for index, one in zip(indices or range(len(classes)), classes, strict=True):
            for name in names_of(one):
                pieces = self._pieces_of_name(name, join)
                if not captions or not self._fits(captions[-1].ids, pieces):
                    captions.append(CaptionTokens([self._text.first_id, *self._prompt], []))
                start = len(captions[-1].ids)
                captions[-1].ids.extend(pieces)
                captions[-1].owners.append((index, list(range(start, start + len(pieces)))))
        for caption in captions:
            caption.ids.append(self._text.last_id)
        return captions

    def write_each(
        self, classes: Sequence[CleanClass], *, join: bool = False
    ) -> list[CaptionTokens]:
        """Write a caption for each name by itself, in the order of `write`.

        Args:
            classes: classes as `clean_names` returns them.
            join: whether each name is written as one word, without spaces and hyphens.

        Raises:
            InputError: a name cannot be written, or the model reads two names alike.
        """
        captions: list[CaptionTokens] = []
        names: dict[tuple[int, ...], str] = {}
        for index, one in enumerate(classes):
            for name in names_of(one):
                captions += self.write([name], indices=[index], join=join)
                ids = tuple(captions[-1].ids)
                if ids in names:
                    raise self._read_alike(names[ids], name, join)
                names[ids] = name
        return captions

    def pad(
        self, captions: Sequence[CaptionTokens]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Pad captions to the longest: `input_ids` and `attention_mask`, both int64 [N, T]."""
        length = max(len(caption.ids) for caption in captions)
        ids = np.full((len(captions), length), self._text.pad_id, np.int64)
        mask = np.zeros((len(captions), length), np.int64)
        for row, caption in enumerate(captions):
            ids[row, : len(caption.ids)] = caption.ids
            mask[row, : len(caption.ids)] = 1
        return ids, mask

    def _fits(self, ids: list[int], pieces: list[int]) -> bool:
        return len(ids) + len(pieces) + 1 <= self._text.context

    def _encode(self, text: str) -> list[int]:
        text = text.lower() if self._text.lowercase else text
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        except BaseException as error:
            if not _is_of_library(error):
                raise
            raise ModelError(
                f"the tokenizer of the model fails on {shown(text)}: {reason(error)}",
                "export it again with the model's own tokenizer",
            ) from error

    def _read_alike(self, one: str, other: str, join: bool) -> InputError:
        apart = join and self._encode(one) != self._encode(other)
        return InputError(
            f"names {shown(one)} and {shown(other)} are read alike, as the same word pieces",
            "join_words (preset 'released') makes them one word: use the preset 'paper'"
            if apart
            else "name one of them",
        )

    def _pieces_of_name(self, name: str, join: bool) -> list[int]:
        if self._known and folded(name) not in self._known_forms:
            raise InputError(
                f"class {shown(name)} was not taught to this model",
                f"it knows: {', '.join(self._known)}; for other names take another model",
            )
        written = re.sub(r"[\s-]+", "", name) if join else name
        pieces = self._encode(self._text.joiner + written)
        if not pieces or self._barred.intersection(pieces):
            raise InputError(
                f"class {shown(written)} cannot be written in this model's vocabulary",
                f"join_words (preset 'released') makes one word of {shown(name)}: use the preset"
                " 'paper'"
                if written != name
                else "use another word for it",
            )
        if not self._fits([self._text.first_id, *self._prompt], pieces):
            raise InputError(
                f"class {shown(name)} is {len(pieces)} word pieces long",
                f"a caption of this model holds {self._text.context} tokens: shorten it",
            )
        return pieces
