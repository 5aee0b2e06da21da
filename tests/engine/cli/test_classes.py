from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pnp_ovss.engine import InputError
from pnp_ovss.engine.cli.classes import read_classes
from pnp_ovss.engine.inputs.names import names_of

NAMES = st.text('ab ,"é', min_size=1, max_size=5).map(lambda text: f"n{text}n")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classes") / "names.txt"


def read(file: Path, text: str, encoding: str = "utf-8"):
    file.write_bytes(text.encode(encoding))
    return read_classes([], file)


def test_a_line_is_a_class_and_commas_separate_its_names(file: Path):
    text = 'cat\r\n\n  \nsofa, couch ,settee\n"salt, pepper",shaker\n "5"" pipe" , tube'
    wanted = ["cat", ("sofa", "couch", "settee"), ("salt, pepper", "shaker"), ('5" pipe', "tube")]
    assert read(file, text) == wanted
    assert read(file, text, "utf-8-sig") == wanted
    assert read_classes(["dog,potted plant", "tree"], file) == [
        *("dog", "potted plant", "tree"),
        *wanted,
    ]


def test_in_the_option_a_comma_separates_classes():
    assert read_classes(["cat,sofa"], None) == ["cat", "sofa"]


def clean(name: str) -> str:
    return " ".join(name.split())


@given(lines=st.lists(st.lists(NAMES, min_size=1, max_size=3), min_size=1, max_size=4))
def test_what_a_csv_writer_writes_is_read(file: Path, lines: list[list[str]]):
    names = [clean(name) for line in lines for name in line]
    assume(len(set(names)) == len(names))
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)
    found = [list(names_of(one)) for one in read_classes([], file)]
    assert found == [list(map(clean, line)) for line in lines]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('"salt, pepper', "a stray quote"),
        ('salt", pepper', "a stray quote"),
        ('5" pipe', "a stray quote"),
        ('"sofa" bed,couch', "a stray quote"),
        ('"sofa"",couch', "a stray quote"),
        ('"', "a stray quote"),
        ("sofa,,couch", "an empty name"),
        ("sofa,", "an empty name"),
        (",", "an empty name"),
        ('""', "an empty name"),
        ('sofa," "', "an empty name"),
    ],
)
def test_a_line_that_breaks_the_rules_is_named(file: Path, line: str, fault: str):
    with pytest.raises(InputError, match=f"line 3 of '.*names.txt' has {fault}") as caught:
        read(file, f'cat\n\n{line}\ndog "\n')
    assert caught.value.cure


@given(text=st.text(st.sampled_from('ab ",\n\r\x00\u2028\ufeff') | st.characters(codec="utf-8")))
@example(text='"' * 9999)
@example(text='" ' * 9999)
def test_any_text_is_read_or_refused(file: Path, text: str):
    try:
        classes = read(file, text)
    except InputError as error:
        said = str(error)
    else:
        assert len(classes) <= len(text.splitlines())
        return
    assert len(said.splitlines()) == 2


@given(content=st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(file: Path, content: bytes):
    file.write_bytes(content)
    with suppress(InputError):
        assert read_classes([], file)


@pytest.mark.parametrize("path", ["no.txt", ".", "a\x00b", "\udce9"])
def test_a_file_that_cannot_be_read_is_named(path: str):
    with pytest.raises(InputError, match="cannot be read"):
        read_classes(["cat"], Path(path))
