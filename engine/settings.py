"""Settings of a segmentation, and the two presets."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from .errors import InputError, shown

Crf = Literal["densecrf", "densecrf-cpu", "pydensecrf"]
DropMode = Literal["pixels", "tokens", "attention"]
Background = Literal["auto", "always", "never"]

MOST_PASSES = 1000  # many more than halve any number of patches down to none
LARGEST_WEIGHT = 1_000_000  # float32 adds the other passes to it without losing them

CHOICES: dict[str, tuple[str | None, ...]] = {
    "drop_mode": get_args(DropMode),
    "background": get_args(Background),
    "crf": (*get_args(Crf), None),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an image is segmented. The defaults are the `paper` preset.

    Attributes:
        passes: K, number of passes of the model, up to 1000; each pass but the last drops patches.
        drop_schedule: patches that a pass drops: "halving" drops half of those left, rounded down;
            a number drops that many.
        drop_mode: what dropping a patch means. Each mode gives another result. "pixels" blanks the
            patch and runs the image encoder again on all patches (the paper). "tokens" runs the
            image encoder again on the patches that are left; most backends load it a second time
            for that. "attention" runs the image encoder once, and masks the patch in
            cross-attention.
        threshold: a class map becomes 0 where it is below the threshold once it is scaled to
            [0, 1]; elsewhere it keeps its values.
        blur: standard deviation of the Gaussian, as a fraction of the longer side of the image.
        background: "always" adds a background channel, "never" leaves it out. "auto" adds it where
            fewer than three classes are looked for, the rule for Context-style data sets.
        crf: dense CRF that sharpens the labels; None goes without. "densecrf" is this package's,
            and runs where the model runs. "densecrf-cpu" is the same on the CPU. "pydensecrf" is
            the package of that name: the same labels, several times slower.
        refine_side: longest side in pixels at which channels and CRF are computed; their result is
            enlarged to a larger image. None computes them at the size of the image, which is exact.
        match_threshold: with `present="match"`, the ITM probability above which a class is taken
            to be in the image.
        first_pass_weight: factor of the salience of the first pass, up to a million.
        join_words: whether a class name is written as one word, without spaces and hyphens.
        sum_last_class: whether the last name of a caption is summed, not averaged, over its
            tokens.
    """

    passes: int = 4
    drop_schedule: int | Literal["halving"] = "halving"
    drop_mode: DropMode = "pixels"
    threshold: float = 0.15
    blur: float = 0.05
    background: Background = "always"
    crf: Crf | None = "densecrf"
    refine_side: int | None = None
    match_threshold: float = 0.5
    first_pass_weight: int = 1
    join_words: bool = False
    sum_last_class: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):  # a number out of a NumPy array is one as well
                object.__setattr__(self, field.name, value.item())
        for name, most in (("passes", MOST_PASSES), ("first_pass_weight", LARGEST_WEIGHT)):
            wanted = f"a whole number from 1 to {most}"
            _require(name, getattr(self, name), wanted, _is_int(1, most))
        for name in ("threshold", "match_threshold", "blur"):
            _require(name, getattr(self, name), "a number from 0 to 1", _is_fraction)
        for name in ("join_words", "sum_last_class"):
            _require(name, getattr(self, name), "True or False", lambda v: isinstance(v, bool))
        for name, choices in CHOICES.items():
            listed = ", ".join(map(repr, choices))
            _require(name, getattr(self, name), f"one of {listed}", _is_one_of(choices))
        _require(
            "drop_schedule",
            self.drop_schedule,
            "'halving' or a whole number from 0",
            lambda v: _is_one_of(("halving",))(v) or _is_int(0)(v),
        )

        _require(
            "refine_side",
            self.refine_side,
            "None or a whole number from 1",
            lambda v: v is None or _is_int(1)(v),
        )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Settings:
        """Make the settings of the paper ("paper") or of its authors' code ("released").

        "released" drops ten patches a pass, counts the first pass twice, writes a name of several
        words as one, and sums over the tokens of the last class. What that code does by accident
        it does not do. `engine/METHOD.md`, "The presets", has the table of all differences.

        Args:
            name: name of the preset.
            changes: fields of `Settings` that differ from the preset.

        Raises:
            InputError: the preset or a field does not exist, or a value is out of range.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise InputError(
                f"unknown preset {shown(name)}", f"the presets are: {', '.join(PRESETS)}"
            )
        known = [field.name for field in fields(cls)]
        for change in changes:
            if change not in known:
                raise InputError(f"unknown setting {change!r}", f"there are: {', '.join(known)}")
        return cls(**{**PRESETS[name], **changes})

    def of_passes(self) -> Settings:
        """Keep the settings that the passes of the model depend on; the others are defaults."""
        return Settings(**{name: getattr(self, name) for name in _OF_PASSES})

    def patches_left(self, patches: int) -> list[int]:
        """Count the patches that each pass sees, K numbers, of an image with P `patches`."""
        left = [patches]
        for _ in range(self.passes - 1):
            count = left[-1] // 2 if self.drop_schedule == "halving" else self.drop_schedule
            left.append(max(left[-1] - count, 0))
        return left


_OF_PASSES = (
    "passes",
    "drop_schedule",
    "drop_mode",
    "first_pass_weight",
    "join_words",
    "sum_last_class",
)

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {
        "drop_schedule": 10,
        "first_pass_weight": 2,
        "join_words": True,
        "sum_last_class": True,
    },
}

Check = Callable[[object], bool]


def _is_int(least: int, most: float = math.inf) -> Check:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most


def _is_fraction(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_one_of(choices: tuple[str | None, ...]) -> Check:
    return lambda v: isinstance(v, str | None) and v in choices


def _require(name: str, value: object, wanted: str, is_good: Check) -> None:
    if not is_good(value):
        raise InputError(f"{name} is {shown(value)}", f"it must be {wanted}")
