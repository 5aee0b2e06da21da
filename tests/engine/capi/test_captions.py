"""The library refuses the names that the engine refuses, and writes the captions that it writes."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pnp_ovss.engine.errors import InputError, ModelError
from pnp_ovss.engine.inputs import names as engine_names
from pnp_ovss.engine.inputs import text as engine_text
from pnp_ovss.engine.inputs.names import MAX_CLASSES, CleanClass, clean_names
from pnp_ovss.engine.inputs.text import Captioner, CaptionTokens
from pnp_ovss.engine.model.manifest import Text
from pnp_ovss.export.models.wordpiece import bert
from tests.engine.capi import text_shim
from tests.engine.capi.test_wordpiece import random_texts
from tests.engine.capi.text_shim import FailureError, Shim, Written

BERT, SPECIAL = bert(), bert()
SPECIAL.add_special_tokens(["[SEP]", "[MASK]"])
BERT_TEXT = Text("wordpiece", "A picture of", " ", True, 30523, 102, 0, "[UNK]", 64)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    return Shim.load(tmp_path_factory)


@pytest.fixture(autouse=True, scope="module")
def _messages_of_the_library(shim: Shim) -> Any:
    """Let the engine quote as the library does, so that whole messages can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (engine_names, engine_text):
            patch.setattr(module, "shown", lambda value: shim.map("quoted", str(value)))
        yield


Outcome = tuple[str, str, str] | tuple[Written, Written]


def as_written(captioner: Captioner, captions: Sequence[CaptionTokens]) -> Written:
    own = [(caption.ids, caption.owners) for caption in captions]
    if not captions:
        return Written(own, [], [])
    ids, mask = captioner.pad(captions)
    return Written(own, ids.tolist(), mask.tolist())


@cache
def of_library(shim: Shim, tokenizer: Tokenizer) -> text_shim.Tokenizer:
    """The tokenizer as the library reads it, read once."""
    return shim.tokenizer(tokenizer.to_str())


@dataclass
class Both:
    """One captioner, of the library and of the engine."""

    library: text_shim.Captioner
    engine: Captioner

    @classmethod
    def of(
        cls,
        shim: Shim,
        text: Text = BERT_TEXT,
        known: Sequence[str] = (),
        tokenizer: Tokenizer = BERT,
    ) -> Both:
        library = of_library(shim, tokenizer).captioner(msgspec.to_builtins(text), known)
        return cls(library, Captioner(tokenizer, text, known))

    def of_engine(
        self, classes: Sequence[Sequence[str]], present: Sequence[bool] | None, join: bool
    ) -> Outcome:
        """Captions of each name and of the classes that are present; or the error."""
        try:
            cleaned = clean_names([one[0] if len(one) == 1 else one for one in classes])
            each = self.engine.write_each(cleaned, join=join)
        except InputError as error:
            return "1", error.cause, error.cure
        chosen = [i for i in range(len(cleaned)) if present is None or present[i]]
        names: list[CleanClass] = [cleaned[i] for i in chosen]
        captions = self.engine.write(names, indices=chosen, join=join)
        return as_written(self.engine, each), as_written(self.engine, captions)

    def of_library(
        self, classes: Sequence[Sequence[str]], present: Sequence[bool] | None, join: bool
    ) -> Outcome:
        flat = list(itertools.chain.from_iterable(classes))
        numbers = [i for i, names in enumerate(classes) for _ in names]
        class_of = None if all(len(names) == 1 for names in classes) else numbers
        try:
            names = self.library.names(flat, class_of, join=join)
        except FailureError as error:
            return str(error.code), error.cause, error.cure
        assert names.classes == len(classes)
        return names.captions(None), names.captions(present or [True] * len(classes))

    def require_equal(
        self,
        classes: Sequence[Sequence[str]],
        present: Sequence[bool] | None = None,
        *,
        join: bool = False,
    ) -> Outcome:
        found = self.of_library(classes, present, join)
        assert found == self.of_engine(classes, present, join)
        return found


def refusal(outcome: Outcome) -> tuple[str, str]:
    """Cause and cure of names that cannot be used."""
    assert len(outcome) == 3
    assert outcome[0] == "1"
    assert outcome[2]
    return outcome[1:]


def written(outcome: Outcome) -> tuple[Written, Written]:
    """Captions of each name, and of the classes that are present."""
    assert len(outcome) == 2
    return outcome


WORDS = st.sampled_from(
    [
        *("cat", "Cat", "potted plant", "Potted  plant", "potted-plant", "traffic light", "x-ray"),
        *("T-Shirt", "hot dog", "hotdog", "café", "Zürich", "straße", "STRASSE", "sofa's", "中"),
        *("24/7 shop", "tiramisu", "U.S. flag", "ΟΔΟΣ", "İstanbul", "unbelievably", "[SEP]"),
        *("[UNK]", "🐈", "-", " - -", "", "  ", "cat\x00"[:3] + "\x07", "x" * 120, "cat " * 70),
    ]
)
SPELT = st.text("abcéÀñß-'.Z \u00a0\u0301ΣЯя가", max_size=12)
NAMES = (WORDS | SPELT).filter(lambda name: "\x00" not in name)
CLASSES = st.lists(st.lists(NAMES, min_size=1, max_size=3), min_size=1, max_size=12)
GOOD = st.lists(st.text("abcdefgh", min_size=1, max_size=9), min_size=1, max_size=60, unique=True)


def with_context(context: int) -> Text:
    return msgspec.structs.replace(BERT_TEXT, context=context)


@settings(max_examples=300)
@given(classes=CLASSES, context=st.integers(4, 64), join=st.booleans())
@example(classes=[["hot dog"], ["hotdog"]], context=64, join=True)
@example(classes=[["cat"], ["sofa", "Cat "]], context=64, join=False)
@example(classes=[["ΟΔΟΣ"], ["οδος"]], context=64, join=False)
def test_any_names_are_written_or_refused_as_by_the_engine(
    shim: Shim, classes: list[list[str]], context: int, join: bool
) -> None:
    Both.of(shim, with_context(context)).require_equal(classes, join=join)


@settings(max_examples=100)
@given(names=GOOD, context=st.integers(12, 64), data=st.data())
def test_names_fill_as_many_captions_as_they_need(
    shim: Shim, names: list[str], context: int, data: st.DataObject
) -> None:
    ends = data.draw(st.sets(st.integers(1, len(names) - 1))) if len(names) > 1 else set()
    classes = [names[i:k] for i, k in itertools.pairwise([0, *sorted(ends), len(names)])]
    present = data.draw(st.lists(st.booleans(), min_size=len(classes), max_size=len(classes)))
    join = data.draw(st.booleans())
    both = Both.of(shim, with_context(context))
    each, found = written(both.require_equal(classes, present, join=join))
    assert len(each.captions) == len(names)
    owners = [one for _, owned in found.captions for one, _ in owned]
    assert owners == [i for i, names in enumerate(classes) if present[i] for _ in names]


def test_500_classes(shim: Shim) -> None:
    classes = [[f"{color} {i}"] for color in ("red", "blue") for i in range(250)]
    _, found = written(Both.of(shim).require_equal(classes, [i % 3 > 0 for i in range(500)]))
    assert len(found.captions) > 10


@pytest.mark.parametrize(
    ("classes", "cause"),
    [
        ([[""]], "class 1 of 1 has an empty name"),
        ([["cat"], [" \t"]], "class 2 of 2 has an empty name"),
        ([["cat"], ["sofa", "\u2003"]], "name 2 of class 2 of 2 has an empty name"),
        ([["x" * 10_001]], "class 1 of 1 has a name of 10001 characters: 'xxx"),
        ([["x " * 10_001]], "class 1 of 1 has a name of 20001 characters: 'x x"),
        ([["c\x07at"]], "class 'c\\x07at' holds a control character"),
        ([["c\x9fat"]], "class 'c\\x9fat' holds a control character"),
        ([["cat"], ["dog"], ["cat"]], "class 'cat' is named twice"),
        ([["hot dog"], [" Hot  DOG "]], "'Hot DOG' is named twice, before as 'hot dog'"),
        ([["sofa", "Sofa"]], "'Sofa' is named twice, before as 'sofa'"),
        ([["caf\u00e9"], ["CAFE\u0301"]], "is named twice, before as 'caf\u00e9'"),
        ([["straße"], ["STRASSE"]], "class 'STRASSE' is named twice, before as 'straße'"),
        ([["cat"], ["🐈"]], "class '🐈' cannot be written in this model's vocabulary"),
        ([["\u200b"]], "class '\u200b' cannot be written in this model's vocabulary"),
        ([["cat " * 70]], "is 70 word pieces long"),
        ([["potted plant"], ["potted\u200b plant"]], "are read alike, as the same word pieces"),
        ([["café"], ["cafe"]], "names 'café' and 'cafe' are read alike, as the same word pieces"),
    ],
    ids=itertools.count(),
)
def test_names_that_cannot_be_used(shim: Shim, classes: list[list[str]], cause: str) -> None:
    assert cause in refusal(Both.of(shim).require_equal(classes))[0]


def test_joined_names_that_cannot_be_used(shim: Shim) -> None:
    both = Both.of(shim)
    for classes, cause, cure in [
        (
            [["- -"]],
            "class '' cannot be written",
            "join_words (preset 'released') makes one word of",
        ),
        (
            [["hot dog"], ["hotdog"]],
            "are read alike",
            "makes them one word: use the preset 'paper'",
        ),
        ([["café"], ["cafe"]], "are read alike", "name one of them"),
    ]:
        found = refusal(both.require_equal(classes, join=True))
        assert cause in found[0]
        assert cure in found[1]
    both.require_equal([["hot - dog"], ["U.S.-flag"]], join=True)


def test_a_model_of_few_words_says_which_it_knows(shim: Shim) -> None:
    both = Both.of(shim, known=("cat", "Hot  dog"))
    for classes in ([["Cat"], ["hot dog"]], [["HOT\u00a0dog"]]):
        assert written(both.require_equal(classes))[0].captions
    cause, cure = refusal(both.require_equal([["cat"], ["kitten"]]))
    assert cause == "class 'kitten' was not taught to this model"
    assert cure == "it knows: cat, Hot  dog; for other names take another model"


REFUSED_LISTS: list[tuple[Any, Any, str]] = [
    ([], None, "no class was named"),
    (None, None, "names is NULL"),
    (["cat", None], None, "class 2 of 2 is NULL"),
    (["cat", "sofa", None], [0, 1, 1], "name 2 of class 2 of 2 is NULL"),
    ([b"c\xffat"], None, "class 'c\\xffat' is not valid text"),
    ([b"\xed\xa0\x80"], None, "class '\\xed\\xa0\\x80' is not valid text"),
    (["cat", "dog"], [1, 1], "name 1 has the class number 1"),
    (["cat", "dog"], [0, 2], "name 2 has the class number 2, after 0"),
    (["cat", "dog", "sofa"], [0, 1, 0], "name 3 has the class number 0, after 1"),
    (["cat", "dog"], [0, 2**32 - 1], "name 2 has the class number 4294967295, after 0"),
    (["x"] * (MAX_CLASSES + 1), None, "65536 classes"),
    (["x"] * (MAX_CLASSES + 1), [0] * (MAX_CLASSES + 1), "65536 names"),
]


@pytest.mark.parametrize(("names", "class_of", "cause"), REFUSED_LISTS, ids=itertools.count())
def test_lists_that_cannot_be_used(shim: Shim, names: Any, class_of: Any, cause: str) -> None:
    with pytest.raises(FailureError) as caught:
        Both.of(shim).library.names(names, class_of)
    assert caught.value.cause == cause
    assert caught.value.code == 1
    assert caught.value.cure


def test_as_many_names_as_there_may_be(shim: Shim) -> None:
    """Three letters each: 65,535 names that the model reads apart."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789!?#$%&"
    spelt = map(" ".join, itertools.product(letters, repeat=3))
    names = Both.of(shim).library.names([*itertools.islice(spelt, MAX_CLASSES)])
    assert names.classes == MAX_CLASSES
    assert len(names.captions(None).captions) == MAX_CLASSES


REFUSED_TEXTS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "🐈 of"}, "the prompt '🐈 of' cannot be written in this model's vocabulary"),
    ({"prompt": "a picture", "pad_id": 3861}, "the prompt 'a picture' cannot be written"),
    ({"joiner": ""}, "other ids in a sentence than by themselves with '' before them"),
    ({"joiner": " a"}, ""),
    ({"prompt": "A picture of a"}, ""),
    ({"prompt": ""}, ""),
    ({"unknown": None, "prompt": "🐈 of"}, ""),
    ({"unknown": "no such token"}, ""),
]


@pytest.mark.parametrize(("changes", "cause"), REFUSED_TEXTS, ids=itertools.count())
def test_texts_of_a_model_are_refused_as_by_the_engine(
    shim: Shim, changes: dict[str, Any], cause: str
) -> None:
    text = msgspec.structs.replace(BERT_TEXT, **changes)
    if not cause:
        Both.of(shim, text).require_equal([["hot dog", "cat"], ["sofa"]])
        return
    with pytest.raises(ModelError) as wanted:
        Captioner(BERT, text)
    with pytest.raises(FailureError) as found:
        of_library(shim, BERT).captioner(msgspec.to_builtins(text))
    assert cause in found.value.cause
    assert (found.value.code, found.value.cause) == (2, wanted.value.cause)
    assert found.value.cure == wanted.value.cure


@pytest.mark.parametrize("name", ["a [SEP] b", "[SEP]"])
def test_a_name_with_a_special_token_is_refused_as_by_the_engine(shim: Shim, name: str) -> None:
    cased = msgspec.structs.replace(BERT_TEXT, lowercase=False)
    found = Both.of(shim, cased, tokenizer=SPECIAL).require_equal([["cat"], [name]])
    assert "cannot be written in this model's vocabulary" in refusal(found)[0]
    both = Both.of(shim, tokenizer=SPECIAL)
    assert written(both.require_equal([["cat"], [name]]))[0].captions


def test_a_prompt_with_a_special_token_is_refused(shim: Shim) -> None:
    text = msgspec.structs.replace(BERT_TEXT, lowercase=False, prompt="a [MASK] of")
    with pytest.raises(FailureError, match=r"holds '\[MASK\]', a token of the model") as found:
        of_library(shim, SPECIAL).captioner(msgspec.to_builtins(text))
    assert found.value.code == 2


@given(names=st.lists(SPELT, min_size=1, max_size=4))
def test_case_is_kept_where_the_model_keeps_it(shim: Shim, names: list[str]) -> None:
    text = msgspec.structs.replace(BERT_TEXT, lowercase=False)
    Both.of(shim, text).require_equal([[name] for name in names])


def test_names_tell_for_which_models_they_are(shim: Shim) -> None:
    """Two captioners have one fingerprint where they are made of the same."""

    def fingerprint(
        change: Callable[[Any], object] | None = None, known: Sequence[str] = (), **text: Any
    ) -> str:
        tokenizer = of_library(shim, BERT)
        if change is not None:
            contents = json.loads(BERT.to_str())
            change(contents)
            tokenizer = shim.tokenizer(json.dumps(contents))
        whole = msgspec.to_builtins(msgspec.structs.replace(BERT_TEXT, **text))
        return tokenizer.captioner(whole, known).fingerprint

    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    added = {"id": 101, "content": "[CLS]", **flags}
    made = [
        fingerprint(),
        fingerprint(lambda c: c["model"]["vocab"].update(zzz=40_000)),
        fingerprint(lambda c: c["model"]["vocab"].update(cat=40_000)),
        fingerprint(lambda c: c["model"].update(max_input_chars_per_word=99)),
        fingerprint(lambda c: c["normalizer"].update(clean_text=False)),
        fingerprint(lambda c: c["normalizer"].update(strip_accents=False)),
        fingerprint(lambda c: c.update(added_tokens=[added])),
        fingerprint(known=["cat"]),
        fingerprint(known=["cat", "dog"]),
        fingerprint(known=["catdog"]),
        fingerprint(prompt="A photo of"),
        fingerprint(lowercase=False),
        fingerprint(first_id=30522),
        fingerprint(last_id=103),
        fingerprint(pad_id=1),
        fingerprint(unknown=None),
        fingerprint(context=63),
    ]
    assert len(set(made)) == len(made)
    assert fingerprint() == made[0]


@pytest.mark.slow
def test_any_bytes_under_address_and_undefined_behavior_sanitizers(tmp_path: Path) -> None:
    program = text_shim.build(
        tmp_path / "text", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"
    )
    whole = {"text": msgspec.to_builtins(BERT_TEXT), "known": []}
    texts = [BERT.to_str().encode("utf-8"), json.dumps(whole).encode("utf-8")]
    for one in random_texts(3_000, seed=3):
        data = one.replace("\0", "").encode("utf-8")
        texts += [data, data[: len(data) // 2]]
    texts += [
        "a\u0301\u0323".encode() * 3_333,
        "Σ'".encode() * 5_000,
        b"x" * 100_000,
        b"\xc3" * 200,
    ]
    given_texts = b"".join(text + b"\0" for text in texts)
    done = subprocess.run([program], input=given_texts, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert done.stdout.startswith(b"6004 names, written ")
    assert int(done.stdout.split()[-2]) > 500
