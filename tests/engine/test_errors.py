from __future__ import annotations

import pickle

import pytest

from pnp_ovss.engine import InputError
from pnp_ovss.engine.errors import AbsentError, shown


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_cause_and_cure_are_one_line_each():
    error = InputError("no image at 'a\nb\x1b[31m\u2028.png'", "check\rthe path é")
    assert error.cause == r"no image at 'a\nb\x1b[31m\u2028.png'"
    assert error.cure == r"check\rthe path é"
    assert str(error) == f"{error.cause}\n{error.cure}"


@pytest.mark.parametrize("error", [InputError("cause", "cure"), AbsentError("cause", "", "brief")])
def test_errors_can_be_pickled(error: InputError | AbsentError):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NoRepr(), "<NoRepr instance at "),
        (10**5000, "of type int"),
        ("a\nb", r"'a\nb'"),
        ([1, "x"], "[1, 'x']"),
    ],
    ids=type,
)
def test_values_are_shown_whatever_they_are(value: object, text: str):
    assert shown(value).startswith(text)
    assert len(shown("x" * 10_000)) < 100
