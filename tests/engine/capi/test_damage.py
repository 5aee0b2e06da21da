"""Model folders that are damaged, or not meant for the library, are refused in words."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.capi import folders, variants

pytestmark = pytest.mark.slow  # the library is built

OK, BAD_INPUT, BAD_MODEL = 0, 1, 2
BOTH = pytest.mark.parametrize("variant", ["built", "asan"])
SOURCES = ("open_folders.c", "world.c")
Path_ = tuple[str | int, ...]
Case = dict[str, bytes]  # files by name

# What the library reads no further than to know that it is there, or not at all.
UNREAD = {
    *("software_version", "checkpoint", "layer", "head", "layer_known", "weights", "export_error"),
    "trained",
}
# Of a graph: what only a host that builds engines, or picks lengths, must know.
UNREAD_OF_GRAPH = {"roles", "lengths", "limits", "gradient", "only_for"}
OPTIONAL = {("classes",), ("preprocess", "resize"), ("graphs", "vision_tokens")}


class Opened:
    """What became of a case."""

    def __init__(self, line: str) -> None:
        code, used, self.cause = line.split("\t", 2)
        self.code = int(code)
        self.used = [int(one) for one in used.split()]


def open_all(
    factory: pytest.TempPathFactory, variant: str, folder: Path, cases: Iterable[Case]
) -> list[Opened]:
    """Write the files of each case into a folder, and open it; nothing may crash."""
    listed = list(cases)
    with (folder.parent / "cases").open("wb") as file:
        for case in listed:
            file.write(struct.pack("=I", len(case)))
            for name, data in case.items():
                file.write(struct.pack("=I", len(name)) + name.encode())
                file.write(struct.pack("=I", len(data)) + data)
    program = variants.program(factory, variant, "open_folders", *SOURCES)
    said = variants.run(program, variants.stub(factory, variant), folder, folder.parent / "cases")
    found = [Opened(line) for line in said.splitlines()]
    assert len(found) == len(listed)
    return found


def manifests(texts: Iterable[bytes | str | Any]) -> Iterable[Case]:
    for text in texts:
        written = text if isinstance(text, bytes | str) else json.dumps(text)
        data = written.encode() if isinstance(written, str) else written
        yield {"manifest.json": data}


@pytest.mark.parametrize("variant", ["built", pytest.param("asan", marks=pytest.mark.long)])
def test_manifests_that_are_cut_off(
    variant: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
):
    text = (folder / "manifest.json").read_bytes()
    cut = [text[:length] for length in range(0, len(text) - 1, 64)]
    for one in open_all(tmp_path_factory, variant, folder, manifests([*cut, text[:-1]])):
        assert one.code == BAD_MODEL
        assert "manifest" in one.cause


@BOTH
def test_flipped_bytes_never_crash(
    variant: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
):
    """A byte of a path or of a size may be another one; nothing but the text is to be trusted."""
    rng = random.Random(0)
    text = (folder / "manifest.json").read_bytes()
    assert len(text) > 3000
    flipped = []
    for _ in range(400):
        changed = bytearray(text)
        for _ in range(rng.choice([1, 1, 1, 5])):
            changed[rng.randrange(len(text))] = rng.choice(b'\x00"{}[],:.-e019\xff\\ntu')
        flipped.append(bytes(changed))
    found = open_all(tmp_path_factory, variant, folder, manifests(flipped))
    assert {one.code for one in found} == {OK, BAD_MODEL}
    assert {code for one in found for code in one.used} <= {0, 1, 2, 5, 6}


def is_read(path: Path_) -> bool:
    if path[0] in UNREAD:
        return False
    return not (path[0] == "graphs" and len(path) > 2 and path[2] in UNREAD_OF_GRAPH)


@BOTH
def test_values_of_another_type_and_missing_ones(
    variant: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
):
    manifest = json.loads((folder / "manifest.json").read_text())
    tried: list[tuple[Path_, Any]] = []
    for path in folders.leaves(manifest):
        was = folders.at(manifest, path)
        others = [None, "strange", -1, 1.5, 1e99, True, [], {}, [[]], folders.REMOVED]
        tried += [
            (path, other)
            for other in others
            if type(other) is not type(was) or other in ([], {}, -1, "strange")
        ]
    if variant == "built":  # the rest takes its time
        tried = tried[::3]
    texts = [folders.changed(manifest, path, other) for path, other in tried]
    found = open_all(tmp_path_factory, variant, folder, manifests(texts))
    wrong = [
        (path, "REMOVED" if other is folders.REMOVED else other, one.code, one.cause)
        for (path, other), one in zip(tried, found, strict=True)
        if one.code not in (OK, BAD_MODEL)
        or (one.code == OK) != is_good(path, other, folders.at(manifest, path))
    ]
    assert not wrong, "\n".join(map(str, wrong))


def is_good(path: Path_, other: Any, was: Any) -> bool:
    """Tell whether a manifest is still good with another value at a place."""
    if not is_read(path):
        return True
    removed = other is folders.REMOVED
    if removed and (path in OPTIONAL or (path[0] == "settings" and len(path) == 2)):
        return True
    if path in (("classes",), ("settings",)) and other in ([], {}) and type(other) is type(was):
        return True
    if path[0] == "classes" and len(path) == 2:
        return removed or isinstance(other, str)
    if path == ("text", "unknown") and (other is None or other == "strange"):
        return True
    if path == ("family",) or path in (("text", "prompt"), ("text", "joiner")):
        return False if path[0] == "text" else other == "strange"
    if path[:2] in (("preprocess", "mean"), ("preprocess", "std")) and len(path) == 3:
        number = isinstance(other, float | int) and not isinstance(other, bool)
        return number and (path[1] == "mean" or other > 0) and abs(other) < 1e38
    if path == ("settings", "crf") and other is None:
        return True
    if path[0] == "graphs" and "shape" in path[:-1]:
        named = isinstance(was, str) and other == "strange"
        return named or (path[-1] == 0 and not removed)  # the rows, which a caller chooses
    return path[0] == "graphs" and path[-1] == "weights" and other == []


@BOTH
def test_schemas_methods_and_paths(
    variant: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
):
    manifest = json.loads((folder / "manifest.json").read_text())
    weights = manifest["files"]["onnx/vision.onnx_data"]
    outside = ["/etc/passwd", "../model/tokenizer.json", "onnx/../../model/x", "..", "", "a\0b"]
    changes: list[tuple[Path_, Any, str]] = [
        (("schema_version",), 1, "schema version 1"),
        (("schema_version",), 3, "schema version 3"),
        (("schema_version",), 0, "schema version 0"),
        (("schema_version",), -2, "schema version -2"),
        (("schema_version",), 10**30, "schema_version"),
        (("method",), "patch-text", "patch-text"),
        (("text", "tokenizer"), "clip", "clip"),
        (("text", "tokenizer"), "sentencepiece", "sentencepiece"),
        (("all_heads",), True, "all-heads"),
        (("dtype",), "float16", "float16"),
        (("preprocess", "sides"), [32, 33], ""),
        (("preprocess", "sides"), [2**31 - 8, 2**31 - 8], ""),
        (("preprocess", "sides"), [2**31, 8], ""),
        (("preprocess", "patch"), 0, ""),
        (("preprocess", "resize"), "bilinear", "bilinear"),
        (("preprocess", "std"), [1, 1, 1e-60], ""),
        (("preprocess", "mean"), [0, 0, 1e300], ""),
        (("text", "context"), 2, ""),
        (("settings", "passes"), 0, "passes"),
        (("settings", "drop_mode"), "none", "drop_mode"),
        (("settings", "threshold"), 1.5, "threshold"),
        (("graphs", "vision", "file"), "onnx/none.onnx", "none.onnx"),
        (("graphs", "vision", "file"), "tokenizer.json", ""),
        (("graphs", "salience", "weights"), ["onnx/none.data"], "none.data"),
        *((("files", path), weights, "is not inside of it") for path in outside),
        (("files", "onnx"), weights, "no regular file"),
        (("files", "onnx/vision.onnx_data", "size"), weights["size"] + 1, "bytes"),
        (("files", "onnx/vision.onnx_data", "sha256"), "0" * 64, "sha256"),
        (("files", "tokenizer.json"), folders.REMOVED, "tokenizer.json"),
        (("files", "manifest.json"), weights, "manifest.json"),
    ]
    texts = [folders.changed(manifest, path, other) for path, other, _ in changes]
    found = open_all(tmp_path_factory, variant, folder, manifests(texts))
    taken = [
        (path, other, one.code, one.cause)
        for (path, other, cause), one in zip(changes, found, strict=True)
        if one.code != BAD_MODEL or cause not in one.cause
    ]
    assert not taken, "\n".join(map(str, taken))


@BOTH
def test_other_texts(variant: str, folder: Path, tmp_path_factory: pytest.TempPathFactory):
    good = (folder / "manifest.json").read_text()
    deep = "[" * 100_000
    texts: list[Any] = ["", "null", "[]", "{}", "1", '"x"', deep, deep + "]" * 100_000, good + "x"]
    texts += [
        good.replace("2", "2\xff", 1).encode("latin-1"),
        "\ufeff" + good,
        b"\0" + good.encode(),
    ]
    texts += [
        '{"a":' * 70_000,
        " " * (17 << 20),
        "1" * 100_000,
        "1e999999",
        '{"schema_version": 2}',
    ]
    texts += [
        good.replace('"schema_version": 2', f'"schema_version": {number}', 1)
        for number in ("02", "2.0", "+2", "2e0", "0x2", "NaN", "-", "2.", "99999999999999999999")
    ]
    for one in open_all(tmp_path_factory, variant, folder, manifests(texts)):
        assert one.code == BAD_MODEL


@BOTH
def test_tokenizers_that_are_damaged(
    variant: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
):
    """Their manifest agrees with them, so that only the tokenizer tells."""
    rng = random.Random(1)
    text = (folder / "tokenizer.json").read_text()
    good = json.loads(text)
    tried: list[bytes] = [text[:length].encode() for length in range(0, len(text) - 1, 64)]
    cut = len(tried)
    for path in folders.leaves(good):
        for other in (None, "strange", -1, 1.5, True, [], {}, folders.REMOVED):
            tried.append(json.dumps(folders.changed(good, path, other)).encode())
    for _ in range(300):
        changed = bytearray(text.encode())
        changed[rng.randrange(len(changed))] = rng.choice(b'\x00"{}[],:.-e019\xff\\ntu#')
        tried.append(bytes(changed))
    manifest = json.loads((folder / "manifest.json").read_text())
    if variant == "built":
        tried = tried[:cut] + tried[cut::4]

    def case(data: bytes) -> Case:
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"]["tokenizer.json"] = {"size": len(data), "sha256": digest}
        return {"tokenizer.json": data, "manifest.json": json.dumps(manifest).encode()}

    found = open_all(tmp_path_factory, variant, folder, map(case, tried))
    assert {one.code for one in found} == {OK, BAD_MODEL}
    assert {code for one in found for code in one.used} <= {0, 1}
    assert {one.code for one in found[:cut]} == {BAD_MODEL}
