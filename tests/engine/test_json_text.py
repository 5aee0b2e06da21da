from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pnp_ovss.engine import BackendError, ModelError, Segmenter
from pnp_ovss.engine.json_text import decode_json, indented_json
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.manifest import MANIFEST
from pnp_ovss.engine.result.files import is_report

DAMAGED = {
    "not UTF-8": b'{"schema_version": 2, "software_version": "\xff\xfe"}',
    "a key that is not UTF-8": b'{"schema_version": 2, "\xff": 1}',
    "a surrogate": b'{"schema_version": 2, "software_version": "\xed\xa0\x80"}',
    "nested too deep": b'{"schema_version": 2, "files": ' + b"[" * 100_000,
    "UTF-16": '{"schema_version": 2}'.encode("utf-16"),
    "a number out of range": b'{"schema_version": 1e999}',
    "nothing": b"",
}


@pytest.fixture(params=DAMAGED.values(), ids=[*DAMAGED])
def damaged(request: pytest.FixtureRequest) -> bytes:
    return request.param


@given(st.binary(max_size=60))
@example(b'"\xff"')
@example(b"[" * 100_000)
def test_any_bytes_are_a_value_or_a_value_error_of_one_line(text: bytes) -> None:
    said = ""
    try:
        decode_json(text)
    except ValueError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


@given(st.dictionaries(st.text(), st.integers(0, 9) | st.text() | st.none()))
def test_what_was_written_is_read(value: dict[str, Any]) -> None:
    text = indented_json(value)
    assert text.endswith(b"\n")
    assert decode_json(text) == value


def test_a_damaged_manifest_is_a_model_error(model_copy: Path, damaged: bytes) -> None:
    (model_copy / MANIFEST).write_bytes(damaged)
    with pytest.raises(ModelError, match="is damaged"):
        Segmenter.load(model_copy)


def test_damaged_bytes_are_no_report(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "report.json").write_bytes(damaged)
    assert not is_report(tmp_path / "report.json")


def test_a_damaged_record_of_a_build_is_told(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "vision.json").write_bytes(damaged)
    with pytest.raises(BackendError, match="cannot be read"):
        builds.read(tmp_path / "vision.json")
