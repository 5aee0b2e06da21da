"""What a caller may set, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .errors import InputError

Crf = Literal["pydensecrf"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a picture is segmented. The defaults are the `paper` preset.

    Attributes:
        passes: K, how often the model is run; each pass but the last drops patches.
        drop_schedule: "halving" drops half of the patches that are left, rounded down; a number
            drops that many.
        drop_mode: what dropping a patch means. "pixels" blanks it in the picture and runs the image
            encoder again (the paper); "attention" runs the image encoder once and masks the patch
            in cross-attention (K times cheaper, another result).
        threshold: a class map, scaled to [0, 1], counts as nothing where it is below this.
        blur: standard deviation of the Gaussian, as a fraction of the longer side of the picture.
        background: "always" adds a background channel, "never" leaves it out, "auto" adds it where
            fewer than three classes are named (the rule for Context-style data sets).
        crf: the dense CRF that sharpens the result, or None to go without.
        match_threshold: with `present="match"`, the ITM probability above which a class is taken
            to be in the picture.
        first_pass_weight: how often the salience of the first pass is counted.
        join_words: write a class name's words as one, without spaces and hyphens.
        sum_last_class: sum, rather than average, over the tokens of the last class of a caption.
    """

    passes: int = 4
    drop_schedule: int | Literal["halving"] = "halving"
    drop_mode: Literal["pixels", "attention"] = "pixels"
    threshold: float = 0.15
    blur: float = 0.05
    background: Literal["auto", "always", "never"] = "always"
    crf: Crf | None = "pydensecrf"
    match_threshold: float = 0.5
    first_pass_weight: int = 1
    join_words: bool = False
    sum_last_class: bool = False

    def __post_init__(self) -> None:
        _require("passes", self.passes, "a whole number from 1", _is_int(self.passes, 1))
        _require(
            "drop_schedule",
            self.drop_schedule,
            '"halving" or a whole number from 0',
            self.drop_schedule == "halving" or _is_int(self.drop_schedule, 0),
        )
        _require(
            "drop_mode",
            self.drop_mode,
            '"pixels" or "attention"',
            self.drop_mode in ("pixels", "attention"),
        )
        for name in ("threshold", "match_threshold"):
            value = getattr(self, name)
            _require(name, value, "a number from 0 to 1", _is_real(value) and 0 <= value <= 1)
        _require(
            "blur", self.blur, "a number from 0 to 1", _is_real(self.blur) and 0 <= self.blur <= 1
        )
        _require(
            "background",
            self.background,
            '"auto", "always" or "never"',
            self.background in ("auto", "always", "never"),
        )
        _require("crf", self.crf, '"pydensecrf" or None', self.crf in ("pydensecrf", None))
        _require(
            "first_pass_weight",
            self.first_pass_weight,
            "a whole number from 1",
            _is_int(self.first_pass_weight, 1),
        )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Settings:
        """The settings of the paper ("paper") or of its authors' released code ("released").

        Args:
            name: the preset.
            changes: fields to set otherwise.

        Raises:
            InputError: the preset or a field does not exist, or a value is out of range.
        """
        if name not in PRESETS:
            raise InputError(
                f"unknown preset {name!r}", f"the presets are: {', '.join(sorted(PRESETS))}"
            )
        return cls(**{**PRESETS[name], **changes})


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "released": {
        "drop_schedule": 10,
        "first_pass_weight": 2,
        "join_words": True,
        "sum_last_class": True,
    },
}


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _require(name: str, value: object, wanted: str, ok: bool) -> None:
    if not ok:
        raise InputError(f"{name} is {value!r}", f"it must be {wanted}")
