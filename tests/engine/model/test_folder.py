from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pnp_ovss.engine import InputError, ModelError
from pnp_ovss.engine.model import folder as model_folder
from pnp_ovss.engine.model.folder import (
    FILES,
    SALIENCE,
    TOKENIZER,
    VISION,
    VISION_TOKENS,
    find_model,
    graphs_to_build,
    is_hub_id,
    open_model,
    record_of,
)
from pnp_ovss.engine.model.manifest import MANIFEST

from tests.conftest import IMAGE_SIZE, Exported

LISTED = [TOKENIZER, VISION, VISION_TOKENS, SALIENCE]


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def folder(hub_id: str) -> Path:
        return tmp_path / "cache" / hub_id.replace("/", "--")

    monkeypatch.setattr(model_folder, "cache_folder", folder)
    return tmp_path / "cache"


def test_a_whole_model_opens(exported: Exported) -> None:
    found = open_model(exported.folder)
    assert found.path == exported.folder
    assert found.manifest.image_size == IMAGE_SIZE
    assert found.manifest.grid == IMAGE_SIZE // found.manifest.patch_size


def test_every_file_of_the_folder_is_in_the_manifest(exported: Exported) -> None:
    files = {p.relative_to(exported.folder).as_posix() for p in exported.folder.rglob("*.*")}
    assert files == {MANIFEST, *open_model(exported.folder).manifest.files}


def test_the_demo_model_is_whole_and_small() -> None:
    found = open_model("demo")
    assert found.manifest.classes
    assert sum(record.size for record in found.manifest.files.values()) < 20e6


@pytest.mark.parametrize(
    ("drop_mode", "only", "wanted"),
    [
        ("pixels", (), [VISION, SALIENCE]),
        ("tokens", (), [VISION, SALIENCE, VISION_TOKENS]),
        ("tokens", ("salience",), [SALIENCE]),
        ("pixels", ("vision_tokens", "vision"), [VISION, VISION_TOKENS]),
    ],
)
def test_graphs_to_build(
    exported: Exported, drop_mode: str, only: tuple[str, ...], wanted: list[str]
) -> None:
    assert graphs_to_build(open_model(exported.folder), drop_mode, only) == wanted


def test_a_graph_that_there_is_not(exported: Exported) -> None:
    with pytest.raises(InputError, match="no graph 'text'") as caught:
        graphs_to_build(open_model(exported.folder), "pixels", ["vision", "text"])
    assert "vision, salience, vision_tokens" in caught.value.cure


def test_record_of(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    (tmp_path / "file").write_bytes(data)
    record = record_of(tmp_path / "file")
    assert (record.size, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_file_is_named(model_copy: Path, name: str, verify: bool) -> None:
    (model_copy / name).unlink()
    with pytest.raises(ModelError, match=f"{name}' is missing"):
        open_model(model_copy, verify=verify)


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("verify", [True, False])
def test_a_truncated_file_is_named(model_copy: Path, name: str, verify: bool) -> None:
    data = (model_copy / name).read_bytes()
    (model_copy / name).write_bytes(data[:-1])
    with pytest.raises(ModelError, match=f"{name}' has {len(data) - 1} bytes instead of"):
        open_model(model_copy, verify=verify)


@pytest.mark.parametrize("name", LISTED)
def test_an_edited_file_is_named_unless_verification_is_off(model_copy: Path, name: str) -> None:
    flip_a_bit(model_copy / name)
    with pytest.raises(ModelError, match=f"{name}' was changed: its sha256"):
        open_model(model_copy)
    open_model(model_copy, verify=False)


def test_edited_weights_beside_the_graph_are_found(model_copy: Path) -> None:
    weights = sorted(model_copy.glob("onnx/*_data"))
    assert weights
    flip_a_bit(weights[0])
    with pytest.raises(ModelError, match="sha256"):
        open_model(model_copy)


def test_a_file_that_cannot_be_read_is_a_model_error(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(model_folder, "record_of", unreadable)
    with pytest.raises(ModelError, match="Permission denied"):
        open_model(exported.folder)


@pytest.mark.parametrize(
    "rest", [{}, {"files": "elsewhere", "caption": None}], ids=["same", "another"]
)
def test_a_newer_schema_asks_for_an_upgrade(model_copy: Path, rest: dict[str, object]) -> None:
    edit_manifest(model_copy, lambda manifest: manifest.update(schema_version=2, **rest))
    with pytest.raises(ModelError, match="schema version 2") as caught:
        open_model(model_copy)
    assert "pip install --upgrade pnp-ovss" in caught.value.cure


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_a_truncated_manifest_is_damaged(model_copy: Path, part: float) -> None:
    text = (model_copy / MANIFEST).read_bytes()
    (model_copy / MANIFEST).write_bytes(text[: int(len(text) * part)])
    with pytest.raises(ModelError, match=r"manifest\.json' is damaged"):
        open_model(model_copy)


@pytest.mark.parametrize("content", [b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b'{"a":1}'])
def test_a_manifest_that_is_something_else_is_damaged(model_copy: Path, content: bytes) -> None:
    (model_copy / MANIFEST).write_bytes(content)
    with pytest.raises(ModelError, match=r"manifest\.json' is damaged"):
        open_model(model_copy)


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: manifest.pop("caption"),
        lambda manifest: manifest.update(schema_version="1"),
        lambda manifest: manifest.update(image_size=1.5),
        lambda manifest: manifest.update(classes=None),
        lambda manifest: manifest["settings"].update(threshold=5),
        lambda manifest: manifest["settings"].update(crf="magic"),
    ],
)
def test_a_manifest_with_a_wrong_field_is_damaged_in_two_lines(
    model_copy: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    edit_manifest(model_copy, edit)
    with pytest.raises(ModelError, match=r"manifest\.json' is damaged") as caught:
        open_model(model_copy)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_manifest_that_does_not_list_a_file_is_refused(model_copy: Path, name: str) -> None:
    edit_manifest(model_copy, lambda manifest: manifest["files"].pop(name))
    with pytest.raises(ModelError, match=f"does not list {name}"):
        open_model(model_copy)


def test_a_folder_without_manifest_is_no_model_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder") as caught:
        open_model(tmp_path)
    assert "pnp-ovss export" in caught.value.cure


@pytest.mark.parametrize(
    "model",
    [
        "nowhere",
        "/no/such/folder",
        "m" * 300,
        f"/{'m' * 300}",
        "~no_such_user_here/model",
        "\udce9",
    ],
    ids=["relative", "absolute", "long", "long absolute", "user", "not text"],
)
def test_a_missing_folder_is_a_model_error(model: str) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        open_model(model)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Salesforce/blip-itm-large-flickr", True),
        ("a/b.c_d-e", True),
        ("demo", False),
        ("./model", False),
        ("../model", False),
        ("/abs/model", False),
        ("~/model", False),
        ("a/b/c", False),
        ("a b/c", False),
        ("", False),
        ("a/" + "b" * 300, True),
    ],
)
def test_is_hub_id(model: str, expected: bool) -> None:
    assert is_hub_id(model) is expected


def test_a_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("models/mine")
    assert find_model("models/mine") == Path("models/mine")


def test_a_hub_id_that_was_not_exported_says_how(cache: Path) -> None:
    with pytest.raises(ModelError, match="has not been exported") as caught:
        open_model("org/name")
    assert f"pnp-ovss export org/name -o '{cache / 'org--name'}'" in caught.value.cure


def test_a_hub_id_that_was_exported_is_found(cache: Path, exported: Exported) -> None:
    cache.mkdir()
    (cache / "org--name").symlink_to(exported.folder)
    assert open_model("org/name").path == cache / "org--name"
