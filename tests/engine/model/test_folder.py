from __future__ import annotations

import errno
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pnp_ovss.engine import ModelError, Segmenter
from pnp_ovss.engine.model import files as model_files
from pnp_ovss.engine.model.folder import cache_folder, find_model, is_hub_id, open_model, record_of
from pnp_ovss.engine.model.manifest import MANIFEST, SCHEMA_VERSION, TOKENIZER
from tests.conftest import IMAGE_SIZE, Exported

GRAPHS = ["vision", "salience", "vision_tokens"]
WIDER = {"shape": ["images", 37, 40]}  # than the graph's
MORE = {"dtype": "float32", "shape": ["batch"]}
FILE = {"size": 0, "sha256": ""}
LISTED = [TOKENIZER, *(f"onnx/{name}.onnx" for name in GRAPHS)]
WEIGHTS = ["onnx/salience.onnx_data", "onnx/vision.onnx_data"]


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def graph_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["graphs"]["salience"]


def swap_graphs(manifest: dict[str, Any], one: str, other: str) -> None:
    graphs = manifest["graphs"]
    graphs[one]["file"], graphs[other]["file"] = graphs[other]["file"], graphs[one]["file"]


def set_tensor(manifest: dict[str, Any], name: str, **changes: Any) -> None:
    graph_of(manifest)["inputs"][name].update(changes)


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder("any/name").parent


def test_a_whole_model_opens(exported: Exported) -> None:
    found = open_model(exported.folder)
    assert found.path == exported.folder
    preprocess = found.manifest.preprocess
    assert preprocess.sides == (IMAGE_SIZE, IMAGE_SIZE)
    side = IMAGE_SIZE // preprocess.patch
    assert (preprocess.grid, preprocess.patches) == ((side, side), side**2)


def test_graphs_are_found_by_name(exported: Exported) -> None:
    found = open_model(exported.folder)
    assert list(found.manifest.graphs) == GRAPHS
    for name in GRAPHS:
        assert found.graph(name) is found.manifest.graphs[name]
        assert found.graph_path(name) == exported.folder / "onnx" / f"{name}.onnx"
        assert (exported.folder / found.graph(name).weight_files[0]).is_file()


def test_a_graph_that_a_model_lacks(model_copy: Path) -> None:
    edit_manifest(model_copy, lambda manifest: manifest["graphs"].pop("vision_tokens"))
    found = open_model(model_copy)
    for ask in (found.graph, found.graph_path):
        with pytest.raises(ModelError, match="has no graph 'vision_tokens'") as caught:
            ask("vision_tokens")
        assert caught.value.cure == (
            f"export it again: pnp-ovss export checkpoint -o '{model_copy}' --image-size"
            f" {IMAGE_SIZE} --overwrite"
        )


def test_every_file_of_the_folder_is_in_the_manifest(exported: Exported) -> None:
    files = {p.relative_to(exported.folder).as_posix() for p in exported.folder.rglob("*.*")}
    assert files == {MANIFEST, *open_model(exported.folder).manifest.files}


def test_the_demo_model_is_whole_and_small() -> None:
    found = open_model("demo")
    assert found.manifest.classes
    assert sum(record.size for record in found.manifest.files.values()) < 20e6


def test_a_model_is_named_for_a_shell(exported: Exported, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported.folder, tmp_path / "it's mine"))
    argument = open_model(folder).argument
    assert shlex.split(f"pnp-ovss build {argument}")[2:] == [str(folder)]
    assert open_model(exported.folder).argument == f"'{exported.folder}'"
    assert open_model("demo").argument == "demo"


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


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_device_is_refused_even_if_it_is_listed(
    model_copy: Path, name: str, verify: bool, make: Callable[[Path], object]
) -> None:
    (model_copy / name).unlink()
    make(model_copy / name)
    empty = {"size": 0, "sha256": hashlib.sha256().hexdigest()}
    edit_manifest(model_copy, lambda manifest: manifest["files"].update({name: empty}))
    with pytest.raises(ModelError, match=f"{name}' is no regular file"):
        open_model(model_copy, verify=verify)


def test_edited_weights_beside_the_graph_are_found(model_copy: Path) -> None:
    weights = sorted(model_copy.glob("onnx/*_data"))
    assert weights
    flip_a_bit(weights[0])
    with pytest.raises(ModelError, match="sha256"):
        open_model(model_copy)


def test_a_file_that_cannot_be_read_is_a_model_error(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: int) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(model_files, "sha256_of", unreadable)
    with pytest.raises(ModelError, match="Permission denied"):
        open_model(exported.folder)


@pytest.mark.parametrize(
    "rest", [{}, {"files": "elsewhere", "text": None}], ids=["same", "another"]
)
def test_a_newer_schema_asks_for_an_upgrade(model_copy: Path, rest: dict[str, object]) -> None:
    newer = SCHEMA_VERSION + 1
    edit_manifest(model_copy, lambda manifest: manifest.update(schema_version=newer, **rest))
    with pytest.raises(ModelError, match=f"schema version {newer}") as caught:
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
        lambda manifest: manifest.pop("text"),
        lambda manifest: manifest.pop("method"),
        lambda manifest: manifest.update(schema_version="2"),
        lambda manifest: manifest["preprocess"].update(sides=[96, 1.5]),
        lambda manifest: manifest["preprocess"].update(sides=[96]),
        lambda manifest: manifest["preprocess"].update(resize="nearest"),
        lambda manifest: manifest["graphs"]["vision"].pop("inputs"),
        lambda manifest: manifest["graphs"]["vision"].update(roles={"batch": "columns"}),
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


@pytest.mark.parametrize(
    ("edit", "wrong"),
    [
        (lambda manifest: manifest.update(dtype="float16"), "its dtype is 'float16'"),
        (lambda manifest: manifest["preprocess"].update(sides=[96, 90]), "size 96x90 is no mult"),
        (lambda manifest: manifest["preprocess"].update(sides=[90, 96]), "size 90x96 is no mult"),
        (lambda manifest: manifest["preprocess"].update(sides=[0, 96]), "size 0x96 is no mult"),
        (lambda manifest: manifest["preprocess"].update(patch=0), "of its patch size 0"),
        (lambda manifest: manifest["preprocess"].update(std=[0, 1, 1]), "normalize nothing"),
        (lambda manifest: manifest["text"].update(context=2), "its captions have 2 tokens"),
        (lambda manifest: manifest["text"].update(first_id=-1), "its tokens -1, .* are none"),
        (lambda manifest: manifest["text"].update(pad_id=2**31), "2147483648 are none"),
        (lambda manifest: manifest["files"].update({"../a": FILE}), "'../a' is not inside"),
        (lambda manifest: manifest["files"].update({"/a": FILE}), "'/a' is not inside"),
        (lambda manifest: manifest["files"].update({"a\0": FILE}), "is not inside"),
        (lambda manifest: graph_of(manifest).update(roles={"row": "rows"}), "has roles for"),
        (lambda manifest: graph_of(manifest).update(lengths={}), "no lengths of tokens"),
        (lambda manifest: graph_of(manifest).update(limits={}), "no lengths of tokens"),
        (lambda manifest: graph_of(manifest).update(limits={"tokens": 9}), "9 is the largest"),
        (lambda manifest: graph_of(manifest).update(lengths={"tokens": [0, 16]}), "has lengths"),
        (lambda manifest: graph_of(manifest)["roles"].update(images="rows"), "several dimensions"),
        (lambda manifest: set_tensor(manifest, "input_ids", dtype="i\n"), "has input_ids as"),
        (lambda manifest: set_tensor(manifest, "input_ids", dtype="object"), "has input_ids as"),
        (lambda manifest: set_tensor(manifest, "patch_keep", shape=["images", -1]), "patch_keep"),
        (lambda manifest: set_tensor(manifest, "patch_keep", shape=["images", 0]), "patch_keep"),
    ],
)
def test_a_manifest_of_a_model_that_nothing_can_run(
    model_copy: Path, edit: Callable[[dict[str, Any]], object], wrong: str
) -> None:
    edit_manifest(model_copy, edit)
    with pytest.raises(ModelError, match=rf"manifest\.json' cannot be used: .*{wrong}"):
        open_model(model_copy)


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: manifest["preprocess"].update(sides=[96, 48]),
        lambda manifest: manifest["preprocess"].update(patch=96),
        lambda manifest: manifest["graphs"].pop("salience"),
        lambda manifest: manifest.update(graphs={}),
        lambda manifest: graph_of(manifest)["inputs"].pop("patch_keep"),
        lambda manifest: graph_of(manifest)["inputs"].update(more=MORE),
        lambda manifest: graph_of(manifest)["outputs"].pop("salience"),
        lambda manifest: graph_of(manifest)["outputs"].update(more=MORE),
        lambda manifest: manifest["graphs"]["vision"].update(inputs={}, roles={}),
        lambda manifest: manifest["graphs"]["vision"].update(outputs={"embeds": MORE}),
        lambda manifest: manifest["graphs"]["vision_tokens"]["inputs"].update(more=MORE),
    ],
)
def test_graphs_that_are_not_what_the_manifest_says_are_refused_when_opened(
    model_copy: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    edit_manifest(model_copy, edit)
    with pytest.raises(ModelError, match=r"cannot be used|has no graph"):
        Segmenter.load(model_copy)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("input_ids", lambda manifest: set_tensor(manifest, "input_ids", dtype="int32")),
        ("image_embeds", lambda manifest: set_tensor(manifest, "image_embeds", **WIDER)),
        ("kept", lambda manifest: swap_graphs(manifest, "vision", "vision_tokens")),
    ],
)
def test_a_graph_that_is_another_is_refused_when_loaded(
    model_copy: Path, backend: str, name: str, edit: Callable[[dict[str, Any]], object]
) -> None:
    pytest.importorskip(backend)
    edit_manifest(model_copy, edit)
    with pytest.raises(ModelError, match=rf"onnx' has '{name}' as .*, and the manifest as"):
        Segmenter.load(model_copy, backend=backend, device="cpu")


@pytest.mark.parametrize("sides", [(96, 48), (16, 96)])
def test_the_sides_of_a_model_may_differ(model_copy: Path, sides: tuple[int, int]) -> None:
    edit_manifest(model_copy, lambda manifest: manifest["preprocess"].update(sides=sides))
    preprocess = open_model(model_copy).manifest.preprocess
    assert preprocess.grid == (sides[0] // 16, sides[1] // 16)
    assert preprocess.patches == sides[0] * sides[1] // 256


@pytest.mark.parametrize("name", sorted([*LISTED, *WEIGHTS]))
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
    assert find_model("models/mine") == tmp_path / "models/mine"


def test_a_hub_id_that_was_not_exported_says_how(cache: Path) -> None:
    with pytest.raises(ModelError, match="has not been exported") as caught:
        open_model("org/name")
    assert f"pnp-ovss export org/name -o '{cache / 'org--name'}'" in caught.value.cure


def test_a_hub_id_that_was_exported_is_found(cache: Path, exported: Exported) -> None:
    cache.mkdir(parents=True)
    (cache / "org--name").symlink_to(exported.folder)
    assert open_model("org/name").path == exported.folder
