"""Make lists of class names to refuse."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from tests.fuzz.mutate import ODD_NUMBERS, ODD_TEXT, ODD_VALUES

WORDS = ("cat", "dog", "red boat", "hot-dog", "Tree", "CAT", "sun", "[SEP]", "##a", "café")


def make(random: Random) -> Any:
    """Make what is given as the classes."""
    return random.choice((_list, _list, _list, _list, _list, _odd))(random)


def _list(random: Random) -> Any:
    names = [_name(random) for _ in range(random.choice((0, 1, 1, 2, 3, 8)))]
    if random.random() < 0.3:
        names.insert(
            random.randrange(len(names) + 1), [_name(random) for _ in range(random.randrange(4))]
        )
    return random.choice(_HOLDERS)(names)


def _name(random: Random) -> Any:
    if random.random() < 0.6:
        return random.choice(WORDS)
    return random.choice((_text, _text, _text, _other))(random)


def _text(random: Random) -> str:
    letters = "".join(
        chr(random.choice(_RANGES)(random)) for _ in range(random.choice((1, 2, 5, 40)))
    )
    form = random.choice(("NFC", "NFD", "NFKC", "NFKD"))
    return random.choice((letters, unicodedata.normalize(form, letters), letters * 300))


_RANGES = (
    lambda random: random.randrange(0x20),
    lambda random: random.randrange(0x20, 0x7F),
    lambda random: random.randrange(0x20, 0x7F),
    lambda random: random.randrange(0x80, 0x2FF),
    lambda random: random.randrange(0x300, 0x370),  # combining
    lambda random: random.randrange(0x2000, 0x2070),  # spaces, directions, joiners
    lambda random: random.randrange(0xD800, 0xE000),  # surrogates
    lambda random: random.randrange(0x110000),
)


class _Raises:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("nothing to iterate over")

    def __len__(self) -> int:
        raise RuntimeError("no length")


class _Sequence:
    """What is iterated over by numbers, and has an end that raises."""

    def __getitem__(self, index: int) -> str:
        if index > 2:
            raise RuntimeError("no more")
        return f"name {index}"


class _Text(str):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def split(self, sep: Any = None, maxsplit: Any = -1) -> Any:
        raise RuntimeError("no words")


class _NoIteration:
    __iter__ = None


def _endless() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"cat {number}"


def _breaks() -> Iterator[str]:
    yield "cat"
    raise RuntimeError("no more names")


def _circle() -> list[Any]:
    circle: list[Any] = ["cat"]
    circle.append(circle)
    return circle


_OTHER: tuple[Any, ...] = (
    *ODD_NUMBERS,
    *ODD_VALUES,
    *ODD_TEXT,
    *(b"cat", bytearray(b"cat"), memoryview(b"cat"), ("sofa", "couch"), {"cat"}, {"cat": 1}),
    *(
        np.str_("cat"),
        np.bytes_(b"cat"),
        np.array("cat"),
        np.array(["sofa", "couch"]),
        object(),
        str,
    ),
    *("cat " * 5000, "x" * 10_001, "\u0301" * 10_000, 10**5000, float, lambda: "cat"),
)


def _other(random: Random) -> Any:
    kind = random.randrange(8)
    if kind == 0:
        return random.choice((_Raises, _Sequence, lambda: _Text("cat"), _NoIteration, _circle))()
    return random.choice(_OTHER)


def _as_dict(names: list[Any]) -> Any:
    return {repr(index): name for index, name in enumerate(names)}


def _as_array(names: list[Any]) -> Any:
    return np.array([str(type(name)) for name in names])


_HOLDERS: tuple[Any, ...] = (
    *(list, list, list, list, list, tuple, iter, _as_dict, _as_array),
    lambda names: (name for name in names),
    lambda names: filter(lambda _: True, names),
    lambda names: np.array([*names, None], object)[:-1],
    lambda names: _as_dict(names).values(),
    lambda names: [names],
    lambda names: names[0] if names else None,
)


def _odd(random: Random) -> Any:
    if random.random() < 0.1:
        return random.choice((_endless, _breaks, _circle, _Raises, _Sequence, _NoIteration))()
    return _other(random)
