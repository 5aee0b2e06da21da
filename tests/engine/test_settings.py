from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pnp_ovss.engine import InputError, Settings

NOT_WHOLE = [1.0, 2.5, "2", True, False, None, [1], math.nan, math.inf, -1]
NOT_FRACTION = ["0.5", True, False, None, [0.5], math.nan, math.inf, -math.inf, -0.01, 1.01, 2, -1]
NOT_CHOICE = ["", "other", 0, True, ["always"]]
NOT_BOOL = ["no", "false", 0, 1, None, [True]]

REFUSED = {
    "passes": [*NOT_WHOLE, 0, "halving", 1001, 10**9, 2**64],
    "drop_schedule": [*NOT_WHOLE, "half", "Halving"],
    "drop_mode": [*NOT_CHOICE, None, "Tokens"],
    "threshold": NOT_FRACTION,
    "blur": NOT_FRACTION,
    "background": [*NOT_CHOICE, None, "Always"],
    "crf": [*NOT_CHOICE, "none", "None", False],
    "refine_side": [*(value for value in NOT_WHOLE if value is not None), 0, "none"],
    "match_threshold": NOT_FRACTION,
    "first_pass_weight": [*NOT_WHOLE, 0, 10**6 + 1, 10**30],
    "join_words": NOT_BOOL,
    "sum_last_class": NOT_BOOL,
}
ACCEPTED = {
    "passes": [1, 100, 1000],
    "drop_schedule": [0, 1, 10**6, 10**30, "halving"],
    "drop_mode": ["pixels", "tokens", "attention"],
    "threshold": [0, 1, 0.0, 1.0, 0.15],
    "blur": [0, 1, 0.05],
    "background": ["auto", "always", "never"],
    "crf": ["densecrf", "pydensecrf", None],
    "refine_side": [None, 1, 1024, 10**30],
    "match_threshold": [0, 1, 0.5],
    "first_pass_weight": [1, 2, 10**6],
    "join_words": [True, False],
    "sum_last_class": [True, False],
}


def cases(table: dict[str, list[Any]]) -> list[tuple[str, Any]]:
    return [(field, value) for field, values in table.items() for value in values]


def test_every_field_is_covered():
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert set(REFUSED) == set(ACCEPTED) == fields


@pytest.mark.parametrize(("field", "value"), cases(REFUSED))
def test_bad_values_are_refused(field, value):
    with pytest.raises(InputError) as caught:
        Settings(**{field: value})
    assert caught.value.cause == f"{field} is {value!r}"
    assert caught.value.cure


@pytest.mark.parametrize(("field", "value"), cases(ACCEPTED))
def test_good_values_are_kept(field, value):
    assert getattr(Settings(**{field: value}), field) == value
    assert getattr(Settings.preset("released", **{field: value}), field) == value


@given(st.floats())
def test_threshold_is_a_number_from_zero_to_one(value):
    if 0 <= value <= 1:
        assert Settings(threshold=value).threshold == value
    else:
        with pytest.raises(InputError):
            Settings(threshold=value)


COMMON = {
    "passes": 4,
    "drop_mode": "pixels",
    "threshold": 0.15,
    "blur": 0.05,
    "background": "always",
    "crf": "densecrf",
    "refine_side": None,
    "match_threshold": 0.5,
}
PAPER = {
    "drop_schedule": "halving",
    "first_pass_weight": 1,
    "join_words": False,
    "sum_last_class": False,
}
RELEASED = {
    "drop_schedule": 10,
    "first_pass_weight": 2,
    "join_words": True,
    "sum_last_class": True,
}


@pytest.mark.parametrize(("name", "own"), [("paper", PAPER), ("released", RELEASED)])
def test_presets_are_those_of_the_method(name, own):
    assert dataclasses.asdict(Settings.preset(name)) == COMMON | own


def test_the_default_is_the_paper():
    assert Settings() == Settings.preset("paper")


def test_preset_takes_changes_without_keeping_them():
    changed = Settings.preset("released", passes=2, drop_schedule=3)
    assert (changed.passes, changed.drop_schedule, changed.join_words) == (2, 3, True)
    assert Settings.preset("released").drop_schedule == 10


@pytest.mark.parametrize(
    ("schedule", "left"),
    [
        ("halving", [441, 221, 111, 56]),
        (10, [441, 431, 421, 411]),
        (200, [441, 241, 41, 0]),
        (0, [441] * 4),
    ],
)
def test_patches_that_each_pass_sees(schedule, left):
    assert Settings(drop_schedule=schedule).patches_left(441) == left
    assert Settings(drop_schedule=schedule, passes=1).patches_left(441) == [441]


class NoRepr:
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("field", REFUSED)
@pytest.mark.parametrize("value", [NoRepr(), -(10**5000), [10**5000]], ids=type)
def test_values_that_cannot_be_written_are_refused_all_the_same(field: str, value: object):
    with pytest.raises(InputError, match=f"{field} is ") as caught:
        Settings.preset("paper", **{field: value})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("name", ["", "Paper", "relesed", None, [], NoRepr(), 10**5000], ids=type)
def test_unknown_preset_names_those_there_are(name):
    with pytest.raises(InputError, match=r"unknown preset .*\n.*paper, released"):
        Settings.preset(name)


def test_preset_with_an_unknown_field_is_an_input_error():
    with pytest.raises(InputError, match="treshold"):
        Settings.preset("paper", treshold=0.2)


def test_preset_with_a_bad_value_is_an_input_error():
    with pytest.raises(InputError, match="passes is 0"):
        Settings.preset("paper", passes=0)


def test_settings_are_frozen_and_can_be_keys():
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.passes = 2  # pyright: ignore[reportAttributeAccessIssue]
    assert {settings: 1}[Settings()] == 1


def test_replace_validates():
    with pytest.raises(InputError, match="blur is 2"):
        dataclasses.replace(Settings(), blur=2)


def test_settings_are_given_by_name():
    with pytest.raises(TypeError):
        Settings(4)  # pyright: ignore[reportCallIssue]
