"""Damage bytes and JSON, in ways that a seeded `Random` chooses."""

from __future__ import annotations

import json
import struct
from copy import deepcopy
from random import Random
from typing import Any

EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
ODD_TEXT = ("", " ", "\0", "\n", "é", "\ud800", "a" * 5000, "../x", "/etc/passwd", "[UNK]", "🦊")
ODD_NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 2**64),
    *(10**30, -(10**30), 0.5, -0.0, 1e-300, 1e300, float("nan"), float("inf"), float("-inf")),
)
ODD_VALUES: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, "NaN", "0")


def damaged(random: Random, data: bytes, other: bytes = b"") -> bytes:
    """Damage bytes in one to three ways; `other` is spliced in now and then."""
    for _ in range(random.choice((1, 1, 2, 3))):
        data = random.choice(_WAYS)(random, data, other)
    return data


def _flip(random: Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _flips in range(random.choice((1, 2, 5, 30)) if data else 0):
        changed[_place(random, data)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _place(random: Random, data: bytes) -> int:
    """Choose a place, every other time in the beginning, where headers are."""
    return random.randrange(min(len(data), 128) if random.random() < 0.5 else len(data))


def _number(random: Random, data: bytes, _: bytes) -> bytes:
    """Overwrite a number of two or four bytes, such as a size."""
    if not data:
        return data
    size, order = random.choice((2, 4)), random.choice("<>")
    value = random.choice(EDGES) & (256**size - 1)
    place = _place(random, data)
    return data[:place] + struct.pack(order + "HI"[size // 4], value) + data[place + size :]


def _truncate(random: Random, data: bytes, _: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _part(random: Random, data: bytes) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 4, 16, 100, 2000)))


def _remove(random: Random, data: bytes, _: bytes) -> bytes:
    start, end = _part(random, data)
    return data[:start] + data[end:]


def _repeat(random: Random, data: bytes, _: bytes) -> bytes:
    start, end = _part(random, data)
    return data[:end] + data[start:end] * random.choice((1, 2, 50)) + data[end:]


def _overwrite(random: Random, data: bytes, _: bytes) -> bytes:
    start, end = _part(random, data)
    fill = random.choice(
        (bytes(end - start), b"\xff" * (end - start), random.randbytes(end - start))
    )
    return data[:start] + fill + data[end:]


def _splice(random: Random, data: bytes, other: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def _nothing_left(random: Random, data: bytes, _: bytes) -> bytes:
    return random.choice((b"", bytes(100), random.randbytes(500), data[:4], data[::-1], data * 2))


_WAYS = (
    *(_flip, _flip, _flip, _number, _number, _truncate, _remove, _repeat, _overwrite, _splice),
    _nothing_left,
)


def odd_value(random: Random) -> Any:
    """Choose a value that JSON can hold, and hardly anybody expects."""
    chosen = random.choice((*ODD_VALUES, random.choice(ODD_NUMBERS), random.choice(ODD_TEXT)))
    return deepcopy(chosen)  # it may be damaged in its turn


def damage_json(random: Random, value: Any) -> None:
    """Damage a value of JSON in place, at one to three of its entries."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        holders = [one for one in _holders(value) if one]
        if holders:
            _damage_holder(random, random.choice(holders), holders)


def _holders(value: Any) -> list[Any]:
    """List all lists and objects in a value."""
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return []
    return [value, *(found for one in inner for found in _holders(one))]


def _damage_holder(random: Random, holder: Any, others: list[Any]) -> None:
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    way = random.randrange(7)
    if way == 0:
        del holder[key]
    elif way == 1:
        holder[key] = json.loads(json.dumps(random.choice(others)))
    elif way == 2 and isinstance(holder, dict):
        holder[random.choice(ODD_TEXT)] = holder.pop(key)
    elif way == 2 and isinstance(holder, list):
        holder.append(odd_value(random))
    elif way == 3 and isinstance(holder[key], int | float):
        holder[key] = random.choice(
            (-holder[key], holder[key] + 1, holder[key] * 1000, *ODD_NUMBERS)
        )
    elif way == 3 and isinstance(holder[key], str):
        holder[key] += random.choice(ODD_TEXT)
    else:
        holder[key] = odd_value(random)
