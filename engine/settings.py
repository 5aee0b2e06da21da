"""What a caller may set, and the two presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from .errors import InputError

Crf = Literal["densecrf", "densecrf-cpu", "pydensecrf"]
DropMode = Literal["pixels", "tokens", "attention"]
Background = Literal["auto", "always", "never"]

CHOICES: dict[str, tuple[str | None, ...]] = {
    "drop_mode": get_args(DropMode),
    "background": get_args(Background),
    "crf": (*get_args(Crf), None),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an image is segmented. The defaults are the `paper` preset.

    Attributes:
        passes: K, how often the model is run; each pass but the last drops patches.
        drop_schedule: "halving" drops half of the patches that are left, rounded down; a number
            drops that many.
        drop_mode: what dropping a patch means. "pixels" blanks it in the image and runs the image
            encoder again, on all of it (the paper); "tokens" runs it again on the patches that are
            left, so that neither it nor cross-attention sees the others (four passes that halve
            cost it less than two, but most backends load it a second time); "attention" runs it
            once and masks the patch in cross-attention. Each gives another result.
        threshold: a class map counts as nothing where it is below this once scaled to [0, 1];
            elsewhere it keeps its own values.
        blur: standard deviation of the Gaussian, as a fraction of the longer side of the image.
        background: "always" adds a background channel, "never" leaves it out, "auto" adds it where
            fewer than three classes are looked for (the rule for Context-style data sets).
        crf: the dense CRF that sharpens the result: "densecrf" is this package's own, which runs
            where the model runs, "densecrf-cpu" the same on the CPU in any case, "pydensecrf" the
            package of that name (the same labels, several times slower); None goes without.
        match_threshold: with `present="match"`, the ITM probability above which a class is taken
            to be in the image.
        first_pass_weight: how often the salience of the first pass is counted.
        join_words: write a class name's words as one, without spaces and hyphens.
        sum_last_class: sum, rather than average, over the tokens of the last class of a caption.
    """

    passes: int = 4
    drop_schedule: int | Literal["halving"] = "halving"
    drop_mode: DropMode = "pixels"
    threshold: float = 0.15
    blur: float = 0.05
    background: Background = "always"
    crf: Crf | None = "densecrf"
    match_threshold: float = 0.5
    first_pass_weight: int = 1
    join_words: bool = False
    sum_last_class: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.generic):  # a number out of a NumPy array is one as well
                object.__setattr__(self, field.name, value.item())
        for name in ("passes", "first_pass_weight"):
            _require(name, getattr(self, name), "a whole number from 1", _is_int(1))
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

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Settings:
        """The settings of the paper ("paper") or of its authors' released code ("released").

        "released" drops ten patches a pass, counts the first pass twice, writes a name of several
        words as one, and sums over the tokens of the last class. It leaves out what that code does
        by accident: where fewer patches have salience than are to be dropped, the lowest indices
        left go, where the code takes any, dropped ones too; the background is exact, where the code
        misses lines that meet a patch's center; captions that are too long become several, where
        the code cuts them; EXIF rotation is applied, transparency laid on white, and a name that
        cannot be written is refused. `engine/METHOD.md` has the whole table.

        Args:
            name: the preset.
            changes: fields to set otherwise.

        Raises:
            InputError: the preset or a field does not exist, or a value is out of range.
        """
        if name not in PRESETS:
            raise InputError(f"unknown preset {name!r}", f"the presets are: {', '.join(PRESETS)}")
        known = [field.name for field in fields(cls)]
        for change in changes:
            if change not in known:
                raise InputError(f"unknown setting {change!r}", f"there are: {', '.join(known)}")
        return cls(**{**PRESETS[name], **changes})

    def of_passes(self) -> Settings:
        """These settings as far as the passes of the model go; all others are the defaults."""
        return Settings(**{name: getattr(self, name) for name in _OF_PASSES})

    def patches_left(self, patches: int) -> list[int]:
        """How many of an image's patches each pass sees."""
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


def _is_int(least: int) -> Check:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= least


def _is_fraction(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_one_of(choices: tuple[str | None, ...]) -> Check:
    return lambda v: isinstance(v, str | None) and v in choices


def _require(name: str, value: object, wanted: str, is_good: Check) -> None:
    if not is_good(value):
        raise InputError(f"{name} is {value!r}", f"it must be {wanted}")
