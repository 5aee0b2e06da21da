"""Make settings to refuse, and those that look as if they should be."""

from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np

from pnp_ovss.engine import Settings
from pnp_ovss.engine.settings import CHOICES, PRESETS
from tests.fuzz.mutate import ODD_NUMBERS, ODD_TEXT, ODD_VALUES

FIELDS = [field.name for field in fields(Settings)]


class _Whole(int):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class _Raises:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __eq__(self, _: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = None  # type: ignore[assignment]


_VALUES: tuple[Any, ...] = (
    *ODD_NUMBERS,
    *ODD_VALUES,
    *ODD_TEXT,
    *(Decimal("0.5"), Decimal("NaN"), Fraction(1, 3), 1j, b"halving", (), {1}, object(), int),
    *(np.float32(0.25), np.float64("nan"), np.int8(3), np.uint64(2**64 - 1), np.bool_(True)),
    *(np.str_("tokens"), np.array(0.5), np.array([1, 2]), np.longdouble(0.5), np.float16(0.1)),
    *(10**9, 10**400, -(10**400), 10**5000, 0.1, 0.9, 1.0, 1.0000001, 5e-324, 5, 16, 40),
    *(
        *PRESETS,
        "halving",
        "PIXELS",
        "densecrf ",
        *(one for some in CHOICES.values() for one in some),
    ),
)


def make(random: Random) -> Settings:
    """Make settings of odd values; most are refused right here.

    Raises:
        InputError: a value cannot be one.
    """
    odd = random.choice((0, 1, 1, 2, 3, len(FIELDS)))
    values = {name: _valid(random, name) for name in random.sample(FIELDS, random.randrange(5))}
    values |= {name: _value(random) for name in random.sample(FIELDS, odd)}
    way = random.randrange(3)
    if way == 0:
        return Settings(**values)
    if way == 1:
        return replace(Settings.preset(random.choice((*PRESETS,))), **values)
    preset = random.choice((*PRESETS, "paper", "released", _value(random)))
    return Settings.preset(preset, **values)


def _value(random: Random) -> Any:
    if random.random() < 0.05:
        return random.choice((_Whole(3), _Raises()))
    return random.choice(_VALUES)


def _valid(random: Random, name: str) -> Any:
    if name in CHOICES:
        return random.choice([one for one in CHOICES[name] if one != "pydensecrf"])
    if name in ("threshold", "blur", "match_threshold"):
        return random.choice((0, 1, 0.0, 1.0, 0.15, 5e-324, random.random()))
    if name == "drop_schedule":
        return random.choice(("halving", 0, 1, 10, 2**31, 2**64, 10**30))
    if name in ("passes", "first_pass_weight"):
        return random.choice((1, 2, 7, 100, 2**31, 2**63, 10**9, 10**38, 10**39, 10**400))
    return random.choice((True, False, np.bool_(False)))
