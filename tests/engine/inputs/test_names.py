from __future__ import annotations

import itertools
import unicodedata
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pnp_ovss.engine import InputError
from pnp_ovss.engine.inputs.names import (
    MAX_CLASSES,
    MAX_LETTERS,
    Index,
    clean_names,
    names_of,
    shown,
    synonyms,
    titles,
)

TEXT = st.text(st.characters(exclude_categories=[]), max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=3) | TEXT
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXT, inner, max_size=2)
        | st.sets(TEXT, max_size=2)
        | st.frozensets(TEXT, max_size=2)
    ),
    max_leaves=8,
)


@given(given_classes=ANYTHING)
@example(given_classes=[10**5000])
@example(given_classes=["\ud800", ["\x00"]])
def test_anything_is_taken_or_refused_in_two_lines(given_classes: Any) -> None:
    try:
        cleaned = clean_names(given_classes)
    except InputError as error:
        said = str(error)
    else:
        names = [name for one in cleaned for name in names_of(one)]
        assert names
        assert all(type(name) is str and name == " ".join(name.split()) != "" for name in names)
        assert len({name.lower() for name in names}) == len(names)
        assert clean_names(cleaned) == cleaned
        return
    assert len(said.splitlines()) == 2


def test_a_class_may_have_several_names_the_title_first() -> None:
    given_classes = ["cat", [" sofa", "Couch\t", "settee"], ("dog",)]
    cleaned = clean_names(given_classes)
    assert cleaned == ["cat", ("sofa", "Couch", "settee"), "dog"]
    assert titles(cleaned) == ("cat", "sofa", "dog")
    assert synonyms(cleaned) == {"sofa": ("Couch", "settee")}


def test_nothing_is_shared_with_the_callers_lists() -> None:
    inner = ["sofa", "couch"]
    given_classes = ["cat", inner]
    cleaned = clean_names(given_classes)
    inner.append("settee")
    given_classes.clear()
    assert cleaned == ["cat", ("sofa", "couch")]


class Series:
    """Iterates over its values, like a column of a table."""

    def __iter__(self) -> Any:
        return iter(["cat", "dog"])


@pytest.mark.parametrize(
    "classes",
    [
        (name for name in ("cat", "dog")),
        OrderedDict(cat=1, dog=2).keys(),
        np.array(["cat", "dog"]),
        Series(),
        ("cat", ("dog",)),
    ],
)
def test_any_iterable_of_names_will_do(classes: Any) -> None:
    cleaned = clean_names(classes)
    assert cleaned == ["cat", "dog"]
    assert [type(name) for name in cleaned] == [str, str]


@pytest.mark.parametrize(
    ("classes", "cause"),
    [
        (None, "classes is None"),
        (7, "classes is 7"),
        (b"cat", "classes is b'cat'"),
        ({"cat"}, "classes is {'cat'}"),
        (frozenset(["cat"]), "classes is frozenset({'cat'})"),
        ({"cat": 1}, "classes is {'cat': 1}"),
        (np.array("cat"), "classes is array('cat'"),
        (["cat", None], "number 2 of the classes is None"),
        ([b"cat"], "number 1 of the classes is b'cat'"),
        (["cat", {"sofa"}], "number 2 of the classes is {'sofa'}"),
        (["cat", []], "class 2 of 2 has an empty list of names"),
        ([["sofa", 3]], "name 2 of class 1 of 1 is 3"),
        ([["sofa", ["couch"]]], "name 2 of class 1 of 1 is ['couch']"),
        ([["sofa", " "]], "name 2 of class 1 of 1 has an empty name"),
        ([["sofa", "Sofa"]], "'Sofa' is named twice, before as 'sofa'"),
        (["Sofa", ["couch", "sofa"]], "'sofa' is named twice, before as 'Sofa'"),
        (["caf\u00e9", "CAFE\u0301"], "is named twice, before as 'caf\u00e9'"),
        (["straße", "STRASSE"], "'STRASSE' is named twice"),
        (["cat\x00"], r"class 'cat\x00' holds a control character"),
        (["c\x07at"], r"class 'c\x07at' holds a control character"),
        (["c\x9fat"], r"class 'c\x9fat' holds a control character"),
        (["cat", "\ud800"], r"class '\ud800' is not valid text"),
        (["x" * (MAX_LETTERS + 1)], "class 1 of 1 has a name of 10001 characters: 'xxx"),
        ("x" * 10**6, "classes is 'xxx"),
    ],
    ids=range(24),
)
def test_what_is_no_list_of_classes_is_refused(classes: Any, cause: str) -> None:
    with pytest.raises(InputError) as caught:
        clean_names(classes)
    assert cause in caught.value.cause
    assert len(caught.value.cause) < 300
    assert caught.value.cure


def test_a_set_has_no_order() -> None:
    with pytest.raises(InputError, match="a set has no order"):
        clean_names({"cat", "dog"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "classes",
    [
        (str(number) for number in itertools.count()),
        [(str(number) for number in itertools.count())],
        itertools.repeat("cat"),
    ],
)
def test_what_has_no_end_is_refused(classes: Any) -> None:
    with pytest.raises(InputError, match=rf"{MAX_CLASSES + 1} (classes|names) or more|twice"):
        clean_names(classes)


def test_as_many_classes_as_a_label_map_holds_are_taken() -> None:
    assert len(clean_names([f"c{index}" for index in range(MAX_CLASSES)])) == MAX_CLASSES


@pytest.mark.parametrize(
    "space", ["\u00a0", "\u2003", "\u3000", "\u2028", "\x85", "\x1c", "\r\n", " \t "]
)
def test_white_space_of_any_kind_is_one_space(space: str) -> None:
    assert clean_names([f"{space}hot{space}dog{space}"]) == ["hot dog"]


@pytest.mark.parametrize(
    "name", ["...", "🐈", "\U0001f469\u200d\U0001f680", "e\u0301", "\u200f\u05e7", "\u200b"]
)
def test_what_only_a_vocabulary_can_tell_is_left_to_it(name: str) -> None:
    assert clean_names([name]) == [name]


def test_a_class_is_found_by_any_of_its_names_in_any_spelling() -> None:
    index = Index(["Cat", "sofa", "caf\u00e9"], {"sofa": ("Living-room couch",)})
    wanted = {0: ["Cat", "cat", " CAT\n"], 1: ["Sofa", "living-room  couch"]}
    wanted[2] = ["Caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")]
    for number, names in wanted.items():
        assert [index.find(name, "here") for name in names] == [number] * len(names)
    with pytest.raises(InputError, match="no class 'dog' here") as caught:
        index.find("dog", "here")
    assert caught.value.cure == "it has: Cat, sofa (Living-room couch), caf\u00e9"
    for name in (1, None, ["Cat"]):
        with pytest.raises(InputError, match=r"no class .* here\nask for a class by its name"):
            index.find(name, "here")  # type: ignore[arg-type]


def test_a_name_as_it_was_given_goes_before_one_that_is_like_it() -> None:
    index = Index(["a", "A"])
    assert [index.find(name, "here") for name in ("A", "a", " A")] == [1, 0, 0]


def test_a_value_is_shown_in_a_short_line() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    for value in ("x" * 10**6, np.zeros((50, 50)), list(range(10**6)), 10**5000, Broken()):
        assert len(shown(value)) < 200
        assert "\n" not in shown(value)
