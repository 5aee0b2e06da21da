"""Check class names and their synonyms, and find a class by any of its names."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ..errors import InputError, reason, shown

Classes = Iterable[str | Sequence[str]]
"""What a caller looks for: each class is a name, or a list of its names, the title first."""

CleanClass = str | tuple[str, ...]
"""A class whose names were checked: its name, or its names, two at least and the title first."""

MAX_CLASSES = np.iinfo(np.uint16).max  # of a label map
MAX_LETTERS = 10_000  # of a name: more than any caption holds

_CURE = 'give a list of names: ["cat", "potted plant"]; of synonyms: [["sofa", "couch"]]'
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def clean_names(classes: Classes) -> list[CleanClass]:
    """Check classes, and remove outer and repeated white space from their names.

    Args:
        classes: names; in place of a name, a list of the names of one class, the title first.

    Returns:
        The name of each class, or the tuple of its names where it has several. Nothing of it is
        shared with what was given.

    Raises:
        InputError: no name is given, a name cannot be one, or two names differ only in case and
            white space.
    """
    given = _items(classes)
    if given is None:
        raise InputError(f"classes is {shown(classes)}", _CURE + _no_order(classes))
    if not given:
        raise InputError("no class was named", "name at least one, such as cat or potted plant")
    if len(given) > MAX_CLASSES:
        raise InputError(
            f"{len(given)} classes or more", f"a label map holds {MAX_CLASSES} at most"
        )
    seen: dict[str, str] = {}
    cleaned: list[CleanClass] = []
    for position, one in enumerate(given, 1):
        where = f"class {position} of {len(given)}"
        if isinstance(one, str):
            cleaned.append(_clean(one, where, seen))
            continue
        synonyms = _items(one)
        if synonyms is None:
            raise InputError(
                f"number {position} of the classes is {shown(one)}", _CURE + _no_order(one)
            )
        if not synonyms:
            raise InputError(f"{where} has an empty list of names", "give it a name, or remove it")
        names: list[str] = []
        for number, name in enumerate(synonyms, 1):
            if not isinstance(name, str):
                raise InputError(f"name {number} of {where} is {shown(name)}", _CURE)
            names.append(_clean(name, f"name {number} of {where}", seen))
            if len(seen) > MAX_CLASSES:
                raise InputError(f"{len(seen)} names or more", f"give {MAX_CLASSES} at most")
        cleaned.append(tuple(names) if len(names) > 1 else names[0])
    return cleaned


def names_of(one: CleanClass) -> tuple[str, ...]:
    """Return the names of a class, the title first."""
    return (one,) if isinstance(one, str) else one


def titles(classes: Sequence[CleanClass]) -> tuple[str, ...]:
    """Return the first name of each class, by which results call it."""
    return tuple(names_of(one)[0] for one in classes)


def synonyms(classes: Sequence[CleanClass]) -> dict[str, tuple[str, ...]]:
    """Return the further names of each class that has several, by its title."""
    return {one[0]: one[1:] for one in classes if not isinstance(one, str)}


def folded(name: str) -> str:
    """Return what names have in common that differ only in case and white space."""
    spaced = " ".join(name.split())
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", spaced).casefold())


class Index:
    """Find a class by any of its names, whatever the case and white space.

    Args:
        classes: titles of the C classes.
        synonyms: further names of classes, by title.
    """

    def __init__(
        self, classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._classes = classes
        self._synonyms = synonyms or {}
        self._found: dict[str, int] = {}
        for form in (str, folded):  # a name as it was given goes before one that is like it
            for index, title in enumerate(classes):
                for name in (title, *self._synonyms.get(title, ())):
                    self._found.setdefault(form(name), index)

    def find(self, name: str, place: str) -> int:
        """Return the index of the class that has a name.

        Args:
            name: title or synonym of the class.
            place: where it is looked for, for the error: "in this result".

        Raises:
            InputError: no class has the name.
        """
        if not isinstance(name, str):
            raise InputError(f"no class {shown(name)} {place}", "ask for a class by its name")
        found = self._found.get(name)
        if found is None:
            found = self._found.get(folded(name))
        if found is None:
            raise InputError(f"no class {shown(name)} {place}", f"it has: {self._listed()}")
        return found

    def _listed(self) -> str:
        return ", ".join(
            f"{title} ({', '.join(self._synonyms[title])})" if title in self._synonyms else title
            for title in self._classes
        )


def _items(value: Any) -> list[Any] | None:
    """List what is in an iterable, up to one more than there may be; None if it is no list."""
    if isinstance(value, str | bytes | bytearray | memoryview | set | frozenset | Mapping):
        return None
    try:
        items = iter(value)
    except TypeError:
        return None
    except Exception as error:  # it may be of anyone's making
        raise _unreadable(error) from error
    try:
        return list(islice(items, MAX_CLASSES + 1))
    except Exception as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> InputError:
    return InputError(f"the classes cannot be listed: {reason(error)}", "give a list of names")


def _no_order(value: object) -> str:
    return "; a set has no order" if isinstance(value, set | frozenset) else ""


def _clean(name: str, where: str, seen: dict[str, str]) -> str:
    """Check a name and remove outer and repeated white space; `seen` has those before, by form."""
    name = " ".join(str.__str__(name).split())  # of a subclass, the text that it holds
    if not name:
        raise InputError(f"{where} has an empty name", "remove it")
    if len(name) > MAX_LETTERS:
        raise InputError(
            f"{where} has a name of {len(name)} characters: {shown(name)}",
            f"a name has {MAX_LETTERS} at most: shorten it",
        )
    if _SURROGATE.search(name):
        raise InputError(f"class {shown(name)} is not valid text", "give it in UTF-8")
    if _CONTROL.search(name):
        raise InputError(f"class {shown(name)} holds a control character", "remove it")
    form = folded(name)
    if form in seen:
        before = "" if seen[form] == name else f", before as {shown(seen[form])}"
        raise InputError(f"class {shown(name)} is named twice{before}", "name each class once")
    seen[form] = name
    return name
