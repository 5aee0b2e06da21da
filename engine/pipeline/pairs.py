"""Take images and class names from the caller, who may change them afterwards."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

from ..errors import InputError, PnpOvssError, attempt, shown
from ..inputs.images import ImageLike, take
from ..inputs.names import Classes, clean_names

Pair = tuple[ImageLike, Classes]
"""An image and the classes to look for in it."""

Taken = TypeVar("Taken")

_CURE = 'give pairs: [("a.jpg", ["cat"])]'


def taken(pairs: Iterable[Pair], *, fetch_urls: bool = False) -> Iterator[Pair | PnpOvssError]:
    """Take each pair when it is handed over, on the thread that iterates.

    Arrays, opened images, file objects and lists of names are copied or read. Paths and URLs are
    read later.

    Args:
        pairs: images and their classes.
        fetch_urls: whether an image may be a URL.

    Returns:
        What was taken of each pair, or the error that it met.

    Raises:
        InputError: `pairs` cannot be iterated over.
    """
    if isinstance(pairs, str | bytes) or not isinstance(pairs, Iterable):
        raise InputError(f"pairs is {shown(pairs)}", _CURE)
    return (_take(given, fetch_urls) for given in pairs)


def given(one: Taken | PnpOvssError) -> Taken:
    """Return what was taken, or raise the error that it met."""
    if isinstance(one, PnpOvssError):
        try:
            raise one
        finally:
            del one  # its traceback has this frame
    return one


def _take(given: object, fetch_urls: bool) -> Pair | PnpOvssError:
    pair = cast("tuple[Any, ...]", given)
    if not isinstance(given, tuple | list) or len(pair) != 2:
        return InputError(f"{shown(pair)} is no pair of an image and its classes", _CURE)
    image, classes = pair
    return attempt(lambda: (take(image, fetch_urls=fetch_urls), clean_names(classes)))
