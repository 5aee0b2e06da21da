"""The library's WordPiece tokenizer gives the ids that the tokenizers package gives."""

from __future__ import annotations

import itertools
import json
import random
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from pnp_ovss.export.models.wordpiece import bert
from tests.engine.capi import text_shim
from tests.engine.capi.test_unicode import LETTERS
from tests.engine.capi.text_shim import FailureError, Shim

FLAGS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
FORMS = ("{}", "a{}b", "x{}", "{}x")
SPACES = [one for one in LETTERS if one.isspace()]
MARKS = [one for one in LETTERS if unicodedata.category(one) == "Mn"]
ALPHABETS: list[list[str]] = [
    [*"abcdefghijklmnopqrstuvwxyz"],
    [*"abcdefghijklmnopqrstuvwxyz", " ", " "],
    [*"cat dog hot-dog sofa's un##believ##ably"],
    SPACES,
    MARKS,
    [*"AEOUaeou", *MARKS[:112]],
    [chr(code) for code in range(0xAC00, 0xD7A4)],
    [chr(code) for code in range(0x1100, 0x1200)],
    [chr(code) for code in (*range(0x4E00, 0xA000), *range(0x20000, 0x2A6E0), 0xFA0E, 0x2B739)],
    [*"ΑΒΓΔΣΣΣασςϑΩΏΪ", "'", "\u00ad", "\u0345"],
    [*"İ\u0131IiŞşĞğÇçÖöÜü", "\u0307"],
    [*"ßẞſﬃǅǈǋÅÅÆæØøŁłÐðÞþ"],
    [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x200B, 0xFEFF, 0xFFFD, 0xE000)],
    [*"😀👨👩👧🐈\u200d\ufe0f🏳🌈", "🇩", "🇪"],
    [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»¿¡、。「」—…·"],
    [
        *"абвгдёжзийАБВЁЙ",
        *"אבגדה",
        "\u05b0",
        "\u05bc",
        *"عربي",
        "\u064b",
        "\u0651",
        *"हिन्दी",
        *"ไทยนี้",
    ],
    LETTERS,
]


def random_texts(count: int, seed: int) -> list[str]:
    """Texts of up to 40 letters of up to four scripts, some as one very long word."""
    rng = random.Random(seed)
    out: list[str] = []
    for _ in range(count):
        alphabet = list(
            itertools.chain.from_iterable(
                rng.sample(letters, min(len(letters), 40)) for letters in rng.sample(ALPHABETS, 4)
            )
        )
        length = rng.randint(0, 40) if rng.random() < 0.99 else rng.randint(95, 110)
        letters = alphabet if length <= 40 else [*"abcéÉ"]
        out.append("".join(rng.choices(letters, k=length)))
    return out


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim.load(tmp_path_factory)


def demo() -> Tokenizer:
    path = resources.files("pnp_ovss.engine") / "data" / "demo" / "tokenizer.json"
    return Tokenizer.from_str(path.read_text(encoding="utf-8"))


class Both:
    """One tokenizer, as the library reads it and as the package does."""

    def __init__(self, shim: Shim, tokenizer: Tokenizer) -> None:
        self.package = tokenizer
        self.library: text_shim.Tokenizer = shim.tokenizer(tokenizer.to_str())

    def ids(self, text: str) -> list[int]:
        return self.package.encode(text, add_special_tokens=False).ids

    def words(self, text: str) -> list[str]:
        assert self.package.normalizer is not None
        assert self.package.pre_tokenizer is not None
        normalized = self.package.normalizer.normalize_str(text)
        return [word for word, _ in self.package.pre_tokenizer.pre_tokenize_str(normalized)]

    def require_equal(self, texts: Iterable[str], *, ids: bool = True) -> None:
        """Compare ids and words of texts, of many at a time: no text changes its neighbor."""
        for batch in batches(texts):
            if not self._differs(" ".join(batch), ids):
                continue
            wrong = [text for text in batch if self._differs(text, ids)] or batch
            raise AssertionError([text.encode("unicode_escape") for text in wrong[:20]])

    def _differs(self, text: str, ids: bool) -> bool:
        if ids and self.library.encode(text) != self.ids(text):
            return True
        return self.library.words(text) != self.words(text)


def batches(texts: Iterable[str], size: int = 10_000) -> Iterator[list[str]]:
    rest = iter(texts)
    while batch := list(itertools.islice(rest, size)):
        yield batch


@pytest.fixture(scope="module", params=[demo, bert], ids=["demo", "bert"])
def both(shim: Shim, request: pytest.FixtureRequest) -> Both:
    return Both(shim, request.param())


def letter_pairs(normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    """A tokenizer of few pieces."""
    pieces = [
        "[UNK]",
        "a",
        "##a",
        "b",
        "ab",
        "##ab",
        "##ba",
        "abba",
        "é",
        "##é",
        "##",
        "",
        "##\u0301",
    ]
    tokenizer = Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizer or normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def all_flags() -> list[dict[str, Any]]:
    values = itertools.product([True, False], [True, False], [True, False, None], [True, False])
    return [dict(zip(FLAGS, one, strict=True)) for one in values]


@pytest.mark.slow
def test_each_letter_inside_of_a_word(shim: Shim) -> None:
    both = Both(shim, bert())
    both.require_equal((f"a{one}b" for one in LETTERS), ids=False)


@pytest.mark.slow
def test_each_letter_alone_and_inside_of_words(both: Both) -> None:
    for form in FORMS:
        both.require_equal(form.replace("{}", one) for one in LETTERS)


@pytest.mark.long
@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("flag", FLAGS)
def test_each_letter_under_each_flag(shim: Shim, flag: str, others: bool) -> None:
    flags = {**dict.fromkeys(FLAGS, others), flag: not others}
    both = Both(shim, letter_pairs(normalizers.BertNormalizer(**flags)))
    both.require_equal((f"a{one}b" for one in LETTERS), ids=False)


def test_random_texts(both: Both) -> None:
    for text in random_texts(3_000, seed=0):
        both.require_equal([text])
        both.require_equal([text.lower()])


@pytest.mark.slow
def test_100_000_random_texts(both: Both) -> None:
    for text in random_texts(100_000, seed=1):
        both.require_equal([text.lower()])


@pytest.mark.parametrize("flags", all_flags(), ids=lambda flags: "".join(map(str, flags.values())))
def test_random_texts_under_each_flag(shim: Shim, flags: dict[str, Any]) -> None:
    both = Both(shim, letter_pairs(normalizers.BertNormalizer(**flags)))
    for text in random_texts(300, seed=2):
        both.require_equal([text])


@given(text=st.text("abAé\u0301 '", max_size=30))
@example(text="abab" * 25)
@example(text="a" * 101)
@example(text="é" * 101)
def test_the_longest_piece_is_taken(shim: Shim, text: str) -> None:
    both = Both(shim, letter_pairs(normalizers.BertNormalizer(strip_accents=False)))
    both.require_equal([text])


@settings(max_examples=100)
@given(
    pieces=st.sets(st.text("ab#é", max_size=5), max_size=30),
    prefix=st.sampled_from(["##", "", "#", "b"]),
    longest=st.integers(0, 12),
    texts=st.lists(st.text("abé #", max_size=14), max_size=20),
)
def test_any_vocabulary(
    shim: Shim, pieces: set[str], prefix: str, longest: int, texts: list[str]
) -> None:
    ids = {piece: 7 * i for i, piece in enumerate(sorted(pieces, key=lambda piece: piece[::-1]), 1)}
    tokenizer = Tokenizer(
        models.WordPiece(
            {**ids, "<?>": 3},
            unk_token="<?>",
            max_input_chars_per_word=longest,
            continuing_subword_prefix=prefix,
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    Both(shim, tokenizer).require_equal(texts)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10_000,
        "a " * 5_000,
        "a\u0301\u0323" * 3_333,
        "\u0301\u0323" * 5_000,
        "Σ'" * 5_000,
        "\u0390" * 10_000,
        "가" * 10_000,
        "中" * 10_000,
        "-" * 10_000,
        "\u200b" * 10_000,
        "🐈" * 10_000,
    ],
    ids=range(11),
)
def test_long_texts(both: Both, text: str) -> None:
    both.require_equal([text, text.lower()])


def test_a_long_word_of_a_model_that_takes_it(shim: Shim) -> None:
    tokenizer = letter_pairs()
    assert isinstance(tokenizer.model, models.WordPiece)
    tokenizer.model.max_input_chars_per_word = 1_000
    Both(shim, tokenizer).require_equal(["a" * 1_000, "ab" * 500, "a" * 999 + "x", "a" * 1_001])


def test_tokens_have_their_ids(both: Both, shim: Shim) -> None:
    for token in ("[UNK]", "[PAD]", "[SEP]", "cat", "##s", "[DEC]", "no such token", ""):
        assert both.library.token_to_id(token) == both.package.token_to_id(token)


def test_added_tokens_have_their_ids(shim: Shim) -> None:
    tokenizer = letter_pairs()
    tokenizer.add_special_tokens(["[SEP]", "abba"])
    tokenizer.add_tokens(["New", AddedToken("café", normalized=False)])
    both = Both(shim, tokenizer)
    for token in ("[SEP]", "abba", "New", "café", "a"):
        assert both.library.token_to_id(token) == both.package.token_to_id(token) is not None


@pytest.mark.parametrize("text", ["[SEP]", "a[SEP]b", "new", "a NEW b", "néw", "x café"])
def test_a_text_with_an_added_token_is_refused(shim: Shim, text: str) -> None:
    tokenizer = letter_pairs()
    tokenizer.add_special_tokens(["[SEP]"])
    tokenizer.add_tokens(["New", AddedToken("café", normalized=False)])
    both = Both(shim, tokenizer)
    with pytest.raises(FailureError, match="a token of the model") as caught:
        both.library.encode(text)
    assert caught.value.code == 1
    assert caught.value.cure
    both.require_equal(["[sep]", "n ew", "cafe", "CAFÉ"])


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    contents = json.loads(letter_pairs().to_str())
    change(contents)
    return json.dumps(contents)


def added(**more: object) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"added_tokens": [{"id": 13, "content": "x", **flags, **more}]}


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda c: c.update(version="2.0"), "its version is '2.0'"),
        (lambda c: c.update(truncation={"max_length": 5}), "it has truncation, and must have none"),
        (lambda c: c.update(padding={"pad_id": 0}), "it has padding, and must have none"),
        (
            lambda c: c.update(normalizer=None),
            "its normalizer is none, and must be 'BertNormalizer'",
        ),
        (lambda c: c.update(normalizer={"type": "NFC"}), "its normalizer is 'NFC', and must be"),
        (lambda c: c.pop("normalizer"), "`normalizer` is missing"),
        (lambda c: c["normalizer"].update(lowercase=1), "`lowercase` is a whole number"),
        (lambda c: c["normalizer"].pop("clean_text"), "`normalizer.clean_text` is missing"),
        (lambda c: c["normalizer"].update(strip_accents="no"), "`strip_accents` is a"),
        (lambda c: c.update(pre_tokenizer=None), "its pre_tokenizer is none, and must be 'Bert"),
        (lambda c: c["pre_tokenizer"].update(type="Digits"), "its pre_tokenizer is 'Digits'"),
        (lambda c: c["model"].update(type="BPE"), "its model is 'BPE', and must be 'WordPiece'"),
        (lambda c: c["model"].pop("type"), "`model.type` is missing"),
        (lambda c: c["model"].pop("unk_token"), "`model.unk_token` is missing"),
        (lambda c: c["model"].update(unk_token="<?>"), "lacks the unknown token, '<?>'"),
        (lambda c: c["model"].update(max_input_chars_per_word=-1), "the longest word has -1"),
        (lambda c: c["model"].update(max_input_chars_per_word=0.5), "per_word` is a number"),
        (lambda c: c["model"].pop("continuing_subword_prefix"), "prefix` is missing"),
        (lambda c: c["model"].update(vocab=[]), "`vocab` is an array"),
        (lambda c: c["model"]["vocab"].update(a=-1), "the id of 'a' is -1, and must be"),
        (lambda c: c["model"]["vocab"].update(a=2**32), "the id of 'a' is 4294967296"),
        (lambda c: c["model"]["vocab"].update(a="b"), "`a` is a string"),
        (lambda c: c.update(added_tokens={}), "`added_tokens` is an object"),
        (lambda c: c.update(added(id=14)), "the id of its token 'x' is 14, and must be 13"),
        (lambda c: c.update(added(content="a")), "the id of its token 'a' is 13, and must be 1"),
        (lambda c: c.update(added(id=-1)), "the id of 'x' is -1"),
        (lambda c: c.update(added(normalized=None)), "`normalized` is null"),
        (lambda c: c.update(added(content="\u0301", normalized=True)), "nothing is left of its"),
    ],
    ids=itertools.count(),
)
def test_another_tokenizer_is_refused(
    shim: Shim, change: Callable[[dict[str, Any]], object], cause: str
) -> None:
    with pytest.raises(FailureError) as caught:
        shim.tokenizer(changed(change))
    assert cause in caught.value.cause
    assert caught.value.cause.startswith("tokenizer.json cannot be used: ")
    assert caught.value.code == 2
    assert "export" in caught.value.cure


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("version"),
        lambda c: c.pop("added_tokens"),
        lambda c: c["normalizer"].pop("strip_accents"),
        lambda c: c.update(added()),
        lambda c: c.update(added(content="", id=99)),
        lambda c: c.update(
            post_processor={"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 3]}
        ),
    ],
    ids=range(6),
)
def test_what_the_package_reads_alike_is_taken(
    shim: Shim, change: Callable[[dict[str, Any]], object]
) -> None:
    contents = changed(change)
    both = Both(shim, Tokenizer.from_str(contents))
    both.library = shim.tokenizer(contents)
    both.require_equal(["Abba", "café", "ab ba"])
