from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from pnp_ovss.engine import InputError, ModelError
from pnp_ovss.engine.inputs.names import MAX_CLASSES, clean_names
from pnp_ovss.engine.inputs.text import Captioner, CaptionTokens
from pnp_ovss.engine.model.folder import open_model, record_of
from pnp_ovss.engine.model.manifest import TOKENIZER, Text
from tests.conftest import Exported
from tests.engine.model.test_folder import edit_manifest

ENC = 30523
PROMPT = "A picture of"

WORDS = st.sampled_from(
    [
        *("cat", "Potted plant", "traffic light", "unbelievably", "x-ray", "T-Shirt", "hot dog"),
        *("café", "Zürich", "sofa's", "24/7 shop", "tiramisu", "中", "U.S. flag", "[SEP]", "[PAD]"),
    ]
)
SPELT = st.text("abcéÀñ-'.Z ", min_size=1, max_size=12).map(lambda text: " ".join(text.split()))
NAMES = st.lists(WORDS | SPELT.filter(bool), min_size=1, max_size=30, unique_by=str.lower)


def captioner(tokenizer: Tokenizer, max_tokens: int = 64, known: tuple[str, ...] = ()) -> Captioner:
    separator, padding = (tokenizer.token_to_id(token) for token in ("[SEP]", "[PAD]"))
    assert separator is not None
    assert padding is not None
    text = Text("wordpiece", PROMPT, " ", True, ENC, separator, padding, "[UNK]", max_tokens)
    return Captioner(tokenizer, text, known)


def pieces(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text.lower(), add_special_tokens=False).ids


@given(names=NAMES, max_tokens=st.integers(6, 60), join=st.booleans())
@example(names=["potted plant"], max_tokens=7, join=False)
def test_captions_hold_every_class_once_in_order_and_whole(
    tokenizer: Tokenizer, names: list[str], max_tokens: int, join: bool
) -> None:
    written = ["".join(n.replace("-", " ").split()) if join else n for n in names]
    own = [pieces(tokenizer, name) for name in written]
    room = max_tokens - 2 - len(pieces(tokenizer, PROMPT))
    unknown = tokenizer.token_to_id("[UNK]")
    assume(all(0 < len(ids) <= room and unknown not in ids for ids in own))

    captions = captioner(tokenizer, max_tokens).write(names, join=join)

    assert [index for caption in captions for index, _ in caption.owners] == list(range(len(names)))
    for caption in captions:
        here = [index for index, _ in caption.owners]
        text = " ".join([PROMPT, *(written[index] for index in here)])
        assert caption.ids[0] == ENC
        assert caption.ids[1:-1] == pieces(tokenizer, text)
        assert caption.ids[-1] == tokenizer.token_to_id("[SEP]")
        assert len(caption.ids) <= max_tokens
        owned = [position for _, positions in caption.owners for position in positions]
        assert owned == list(range(1 + len(pieces(tokenizer, PROMPT)), len(caption.ids) - 1))
        for index, positions in caption.owners:
            assert [caption.ids[position] for position in positions] == own[index]
    for earlier, later in itertools.pairwise(captions):
        assert len(earlier.ids) + len(later.owners[0][1]) > max_tokens


@given(names=NAMES)
def test_class_names_never_become_special_tokens(tokenizer: Tokenizer, names: list[str]) -> None:
    special = {
        ENC,
        *(tokenizer.token_to_id(f"[{t}]") for t in ("UNK", "SEP", "PAD", "CLS", "MASK")),
    }
    for name in names:
        try:
            (caption,) = captioner(tokenizer).write([name])
        except InputError:
            continue
        assert not special.intersection(caption.ids[1:-1])


@given(name=st.text(st.characters(exclude_categories=[]), min_size=1, max_size=8))
@example(name="\udce9")
def test_any_text_is_written_or_refused(tokenizer: Tokenizer, name: str) -> None:
    try:
        (caption,) = captioner(tokenizer).write(clean_names([name]))
    except InputError:
        return
    assert caption.owners


def test_indices_name_the_owners(tokenizer: Tokenizer) -> None:
    (caption,) = captioner(tokenizer).write(["cat", "dog"], indices=[4, 1])
    assert [index for index, _ in caption.owners] == [4, 1]


def test_synonyms_are_names_of_their_own_of_one_class(tokenizer: Tokenizer) -> None:
    write = captioner(tokenizer, 8).write
    first, second = write(["cat", ("sofa", "couch"), "dog"])
    names = write(["cat", "sofa", "couch", "dog"])
    assert [first.ids, second.ids] == [caption.ids for caption in names]
    assert first.owners == [(0, [4]), (1, [5]), (1, [6])]
    assert second.owners == [(2, [4])]
    apart = captioner(tokenizer).write_each(["cat", ("sofa", "hot dog")])
    assert apart == [
        *write(["cat"]),
        *write(["sofa"], indices=[1]),
        *write(["hot dog"], indices=[1]),
    ]


@pytest.mark.parametrize("name", ["potted plant", "potted-plant", "potted \t plant"])
def test_join_writes_a_name_as_one_word(tokenizer: Tokenizer, name: str) -> None:
    write = captioner(tokenizer).write
    assert write([name], join=True) == write(["pottedplant"])


def test_500_names_need_several_captions_and_none_is_lost(tokenizer: Tokenizer) -> None:
    names = [f"{color} {number}" for color in ("red", "blue") for number in range(250)]
    captions = captioner(tokenizer, 64).write(names)
    assert len(captions) > 1
    assert sum(len(caption.owners) for caption in captions) == 500


@pytest.mark.parametrize("name", ["🐈", "cat 🐈", "x" * 300, "\u200b", "\x00"])
def test_names_outside_the_vocabulary_are_refused(tokenizer: Tokenizer, name: str) -> None:
    with pytest.raises(InputError, match="vocabulary") as caught:
        captioner(tokenizer).write(["cat", name])
    assert caught.value.cure == "use another word for it"


def test_a_model_of_few_words_says_which_it_knows(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError) as caught:
        captioner(tokenizer, known=("cat", "hot dog")).write(["🐈"])
    assert caught.value.cure == "it knows: cat, hot dog; for other names take another model"


@pytest.mark.parametrize("name", ["Hot Dog", "hot  dog"])
def test_the_names_that_a_model_knows_are_found_in_any_spelling(
    tokenizer: Tokenizer, name: str
) -> None:
    write = captioner(tokenizer, known=("cat", "Hot  dog")).write
    assert write([("cat", name)]) == captioner(tokenizer).write([("cat", "hot dog")])
    with pytest.raises(InputError, match="'kitten' was not taught"):
        write([("cat", "kitten")])


def test_a_joined_name_of_hyphens_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError):
        captioner(tokenizer).write(["- -"], join=True)


def test_the_longest_name_that_fits_is_taken_and_one_longer_refused(tokenizer: Tokenizer) -> None:
    write = captioner(tokenizer, 20).write
    room = 20 - 2 - len(pieces(tokenizer, PROMPT))
    (caption,) = write([" ".join(["cat"] * room)])
    assert len(caption.ids) == 20
    with pytest.raises(InputError, match=f"is {room + 1} word pieces long") as caught:
        write([" ".join(["cat"] * (room + 1))])
    assert "20 tokens" in caught.value.cure


def test_padding_is_masked(tokenizer: Tokenizer) -> None:
    short, long = CaptionTokens([9, 8], []), CaptionTokens([7, 6, 5, 4], [])
    ids, mask = captioner(tokenizer).pad([short, long])
    padding = tokenizer.token_to_id("[PAD]")
    assert ids.tolist() == [[9, 8, padding, padding], [7, 6, 5, 4]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert ids.dtype == mask.dtype == np.int64


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}'])
def test_a_damaged_tokenizer_is_a_model_error(exported: Exported, tmp_path, text: str) -> None:
    (tmp_path / TOKENIZER).write_text(text)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        Captioner.load(replace(open_model(exported.folder), path=tmp_path))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ("model", {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": None}),
        ("model", {"type": "WordLevel", "vocab": {"cat": 1}, "unk_token": "none"}),
    ],
    ids=["panic of Rust", "no unknown token", "a missing unknown token"],
)
def test_a_tokenizer_that_fails_is_a_model_error(model_copy: Path, part: str, value: Any) -> None:
    path = model_copy / TOKENIZER
    path.write_text(json.dumps(json.loads(path.read_text()) | {part: value}))
    record = msgspec.to_builtins(record_of(path))
    edit_manifest(model_copy, lambda manifest: manifest["files"].update({TOKENIZER: record}))
    with pytest.raises(ModelError, match=r"cannot be read|the tokenizer of the model fails on"):
        Captioner.load(open_model(model_copy))


def test_names_lose_outer_and_repeated_white_space() -> None:
    assert clean_names(["  hot \t dog\n", "Cat"]) == ["hot dog", "Cat"]


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        ([], "no class"),
        ([""], "class 1 of 1"),
        (["cat", " \t"], "class 2 of 2"),
        (["cat", "dog", "cat"], "'cat' is named twice"),
        (["hot dog", " Hot  DOG "], "'Hot DOG' is named twice"),
        ("cat", "classes is 'cat'"),
        (["cat", 3], "classes is"),
        ([f"c{i}" for i in range(MAX_CLASSES + 1)], "65536 classes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lists_of_names_that_cannot_be_used(names: list[str], cause: str) -> None:
    with pytest.raises(InputError) as caught:
        clean_names(names)
    assert cause in caught.value.cause
    assert caught.value.cure


def byte_level() -> Tokenizer:
    """A tokenizer that writes a word at the start of a text otherwise than one inside."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("c", "a"), ("ca", "t"), ("Ġ", "cat")]
    pieces = ["<s>", "</s>", "<pad>", *letters, *(left + right for left, right in merges)]
    ids = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(ids, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def text_of(joiner: str, *, lowercase: bool = False) -> Text:
    return Text("byte-bpe", "a photo of", joiner, lowercase, 0, 1, 2, None, 64)


@given(names=st.lists(st.text("catdogXY -'é", min_size=1, max_size=9), min_size=1, max_size=3))
def test_names_have_the_ids_of_a_sentence_whatever_the_tokenizer(names: list[str]) -> None:
    names = [name for name in (" ".join(name.split()) for name in names) if name]
    assume(names)
    tokenizer = byte_level()
    captions = Captioner(tokenizer, text_of(" ")).write(names)
    for caption in captions:
        own = [names[index] for index, _ in caption.owners]
        assert caption.ids[1:-1] == tokenizer.encode(" ".join(["a photo of", *own])).ids


def test_case_is_kept_where_the_family_keeps_it() -> None:
    tokenizer = byte_level()
    for lowercase, wanted in ((False, " Cat"), (True, " cat")):
        (caption,) = Captioner(tokenizer, text_of(" ", lowercase=lowercase)).write(["Cat"])
        ((_, owned),) = caption.owners
        assert [caption.ids[token] for token in owned] == tokenizer.encode(wanted).ids


def test_a_joiner_that_changes_a_name_in_a_sentence_is_refused() -> None:
    """Names one after the other become other pieces: "hot-dogZebra"."""
    letters = [*"abcdefghijklmnopqrstuvwxyzZ -", "gZ"]
    ids = {piece: index for index, piece in enumerate(["<s>", "</s>", "<pad>", *letters])}
    tokenizer = Tokenizer(models.BPE(ids, [("g", "Z")]))
    Captioner(tokenizer, text_of(" "))
    with pytest.raises(ModelError, match="gives names other ids in a sentence"):
        Captioner(tokenizer, text_of(""))
