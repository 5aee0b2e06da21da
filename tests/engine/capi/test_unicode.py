"""Lower case, white space and Unicode's forms are those of Python and of the tokenizers package."""

from __future__ import annotations

import itertools
import re
import runpy
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import normalizers

from pnp_ovss.engine.errors import shown
from pnp_ovss.engine.inputs.names import folded
from tests.engine.capi.text_shim import CAPI, FailureError, Shim

LETTERS = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
TABLES = ("unicode_sets.inc", "unicode_cases.inc", "unicode_decompositions.inc")
SIGMA = "\u03a3"
APART = "|"  # neither has case nor is ignored around a sigma

PYTHON: dict[str, Callable[[str], str]] = {
    "same": str,
    "lower": str.lower,
    "spaced": lambda text: " ".join(text.split()),
    "folded": folded,
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
}
TOKENIZERS: dict[str, Callable[[str], str]] = {
    "tokenizers.lower": normalizers.Lowercase().normalize_str,
    "tokenizers.decomposed": normalizers.NFD().normalize_str,
}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim.load(tmp_path_factory)


def made_with() -> tuple[str, str]:
    """The versions of tokenizers and of Python's Unicode that the tables were made with."""
    pattern = r"with tokenizers (\S+) and Python's Unicode (\S+); "
    headers = {
        re.findall(pattern, (CAPI / "src" / name).read_text(encoding="utf-8"))[0] for name in TABLES
    }
    (found,) = headers
    return found


@pytest.fixture(scope="module")
def letters(shim: Shim) -> list[str]:
    """All letters; of a Python with another Unicode, but those that only one of the two knows.

    A letter that Python alone knows, the library must leave alone. A newer Unicode adds some
    hundred letters that have case or are marks.
    """
    if made_with()[1] == unicodedata.unidata_version:
        return LETTERS
    other = [
        one
        for one in LETTERS
        if any(shim.map(which, one) != python(one) for which, python in PYTHON.items())
        or shim.map("decomposed", f"\u0345{one}\u0334")
        != PYTHON["decomposed"](f"\u0345{one}\u0334")
        or any(
            shim.map("lower", f"{before}{one}{SIGMA}") != f"{before}{one}{SIGMA}".lower()
            for before in ("", "A")
        )
    ]
    for one in other:
        unknown_here = unicodedata.category(one) == "Cn"
        left_alone = shim.map("folded", one) == one == shim.map("lower", one)
        assert unknown_here or left_alone, f"U+{ord(one):04X}"
    assert len(other) < 500
    codes = " ".join(f"{ord(one):04X}" for one in other)
    warnings.warn(
        f"{len(other)} letters are not compared, of which one knows more: {codes}", stacklevel=1
    )
    return [one for one in LETTERS if one not in set(other)]


def batches(texts: Iterable[str], size: int = 20_000) -> Iterator[list[str]]:
    rest = iter(texts)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def differences(shim: Shim, which: str, python: Callable[[str], str], texts: Iterable[str]) -> list:
    """The texts of which a function of the library makes something else than Python's does."""
    wrong = []
    for batch in batches(texts):
        whole = APART.join(batch)
        if shim.map(which, whole) != python(whole):
            wrong += [text for text in batch if shim.map(which, text) != python(text)] or batch
    return [text.encode("unicode_escape") for text in wrong]


@pytest.mark.parametrize("which", PYTHON)
def test_each_letter_becomes_what_python_makes_of_it(
    shim: Shim, letters: list[str], which: str
) -> None:
    assert not differences(shim, which, PYTHON[which], letters)
    assert not differences(shim, which, PYTHON[which], (f" {one}  a{one}" for one in letters))


@pytest.mark.parametrize("which", TOKENIZERS)
def test_each_letter_becomes_what_tokenizers_make_of_it(shim: Shim, which: str) -> None:
    assert not differences(shim, which, TOKENIZERS[which], LETTERS)


@pytest.mark.parametrize("form", ["{}S", "A{}S", "AS{}", "AS{}a", "AS{}.", "A{}{}S'"])
def test_a_sigma_is_final_where_python_says_so(shim: Shim, letters: list[str], form: str) -> None:
    texts = (form.replace("S", SIGMA).replace("{}", one) for one in letters)
    assert not differences(shim, "lower", str.lower, texts)


def test_marks_are_put_in_order(shim: Shim, letters: list[str]) -> None:
    classes: dict[int, str] = {}
    for one in letters:
        if unicodedata.decomposition(one) == "":
            classes.setdefault(unicodedata.combining(one), one)
    assert len(classes) > 50
    marks = [one for one in letters if unicodedata.combining(one)]
    assert len(marks) > 800
    pairs = [one + other for one in marks for other in classes.values()]
    pairs += [pair[::-1] for pair in pairs]
    assert not differences(shim, "decomposed", PYTHON["decomposed"], pairs)
    which = "tokenizers.decomposed"
    assert not differences(shim, which, TOKENIZERS[which], pairs)


WORDS = st.text(
    st.sampled_from(
        f"aZ \t\u00a0\u2003.'-{SIGMA}\u03c3\u03c2\u0130\u0131\u00df\ufb03\u01c5\u1e9b\u0345\u0301"
        "\u0327\u0323\u05b0\u00ad\u200d\uac00\ud7a3\u1100\u1161\u11a8\u212b\u0958\U0001d15e\u1f80"
        "\u4e2d\U0001f408"
    ),
    max_size=30,
)


@given(text=WORDS)
@example(text="")
@example(text="a" + "\u0301\u0323" * 5000)
@example(text=(SIGMA + "'") * 5000)
@example(text="A" + "'" * 9998 + SIGMA)
def test_texts_become_what_they_do_elsewhere(shim: Shim, text: str) -> None:
    for which, function in {**PYTHON, **TOKENIZERS}.items():
        assert shim.map(which, text) == function(text)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def taken(shim: Shim, data: bytes) -> bool:
    try:
        text = shim.map("same", data)
    except FailureError:
        return False
    assert text.encode("utf-8") == data
    return True


def test_utf8_is_read_as_python_reads_it(shim: Shim) -> None:
    edges = bytes.fromhex("41 7f 80 8f 90 9f a0 bf c0 c1 c2 df e0 e1 ec ed ee ef f0 f1 f4 f5 ff")
    for data in itertools.chain.from_iterable(
        itertools.product(edges, repeat=n) for n in (1, 2, 3)
    ):
        assert taken(shim, bytes(data)) == is_utf8(bytes(data)), bytes(data)
    for data in itertools.product(
        b"\xef\xf0\xf1\xf4\xf5", edges, b"\x7f\x80\xbf\xc0", b"A\x80\xbf\xc2"
    ):
        assert taken(shim, bytes(data)) == is_utf8(bytes(data)), bytes(data)


@given(data=st.binary(max_size=8))
def test_any_bytes_are_text_or_refused(shim: Shim, data: bytes) -> None:
    assert taken(shim, data) == is_utf8(data)


@given(text=st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"]), max_size=200))
@example(text="x" * 78)
@example(text="x" * 79)
@example(text="".join(map(str, range(100))))
def test_plain_texts_are_quoted_as_in_python(shim: Shim, text: str) -> None:
    wanted = shown(" ".join(text.split()))
    assert shim.map("quoted", " ".join(text.split())) == wanted


@given(data=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@example(data="\u4e2d".encode() * 100)
@example(data=b"\x00" * 81)
@example(data=b"\x80" * 1000)
def test_anything_is_quoted_in_a_short_line_of_utf8(shim: Shim, data: bytes) -> None:
    quoted = shim.map("quoted", data)
    assert quoted[0] == quoted[-1] == "'"
    assert len(quoted.encode("utf-8")) <= 80
    assert len(quoted.splitlines()) == 1
    assert not re.search("[\x00-\x1f\x7f-\x9f]", quoted)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"a\x07\n", r"'a\x07\n'".replace(r"\n", r"\x0a")),
        ("\u2028\x85".encode(), r"'\u2028\x85'"),
        (b"\xffcat\xc3", r"'\xffcat\xc3'"),
        (b"sofa's", "'sofa's'"),
        ("\u4e2d".encode() * 100, "'" + "\u4e2d" * 12 + "..." + "\u4e2d" * 12 + "'"),
    ],
    ids=range(5),
)
def test_what_would_break_a_line_is_escaped(shim: Shim, data: bytes, wanted: str) -> None:
    assert shim.map("quoted", data) == wanted


@pytest.mark.slow
def test_the_tables_are_those_that_are_made_now() -> None:
    if made_with() != (tokenizers.__version__, unicodedata.unidata_version):
        pytest.skip(f"the tables were made with other versions: {made_with()}")
    generated = runpy.run_path(str(CAPI / "tables.py"))["generated"]()
    assert sorted(generated) == sorted(TABLES)
    for name, text in generated.items():
        assert (CAPI / "src" / name).read_text(encoding="utf-8") == text
