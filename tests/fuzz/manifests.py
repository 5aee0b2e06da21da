"""Make manifests to refuse: those of whole models, damaged as JSON or as bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from pnp_ovss.engine.model.folder import read_manifest
from pnp_ovss.engine.model.manifest import MANIFEST
from tests.fuzz.mutate import ODD_NUMBERS, ODD_TEXT, damage_json, damaged, odd_value

VERSION_1 = Path(__file__).parent.parent / "engine" / "model" / "version_1"
DEMO = Path(str(resources.files("pnp_ovss.engine") / "data" / "demo"))

_NAMES = (
    *("../x", "/etc/passwd", "a\0b", "", ".", "..", "x" * 300, "onnx", "onnx/", "a/../../b", "~/x"),
    *("\ud800", "C:\\x", "./tokenizer.json", "manifest.json", "/dev/zero", "x/" * 3000),
)
_DEEP = 100_000


def make(random: Random) -> bytes:
    """Make the bytes of a `manifest.json`."""
    whole = json.loads(random.choice(bases()))
    way = random.randrange(10)
    if way == 0:
        return damaged(random, random.choice(bases()), random.choice(bases()))
    if way < 6:
        damage_json(random, whole)
    elif way < 9:
        for _ in range(random.choice((1, 1, 2))):
            edit(random, whole)
    return _encoded(random, whole)


@cache
def bases() -> tuple[bytes, ...]:
    """The manifests that are damaged: of both schema versions."""
    upgraded = msgspec.json.encode(read_manifest(VERSION_1))
    return ((DEMO / MANIFEST).read_bytes(), upgraded, (VERSION_1 / MANIFEST).read_bytes())


def _encoded(random: Random, whole: Any) -> bytes:
    text = json.dumps(whole, ensure_ascii=random.random() < 0.5)
    if random.random() < 0.9:
        return text.encode("utf-8", "surrogatepass")
    return random.choice(_ENCODINGS)(text)


_ENCODINGS: tuple[Callable[[str], bytes], ...] = (
    lambda text: text.encode("utf-16", "surrogatepass"),
    lambda text: text.encode("utf-8-sig", "surrogatepass"),
    lambda text: text.encode("utf-32", "surrogatepass"),
    lambda text: text.encode("latin-1", "replace"),
    lambda text: text.replace("a", "\xff", 3).encode("latin-1", "replace"),
    lambda text: text[:-1].encode("utf-8", "replace") + b', "files": {}, "graphs": 3}',
    lambda text: text.encode("utf-8", "replace") + b"\0",
    lambda text: text.encode("utf-8", "replace") * 2,
    lambda text: b"[" * _DEEP + text.encode("utf-8", "replace"),
    lambda text: (
        text[:-1].encode("utf-8", "replace")
        + b', "more": '
        + b'{"a":' * _DEEP
        + b"1"
        + b"}" * (_DEEP + 1)
    ),
    lambda text: b" " * 10**6 + text.encode("utf-8", "replace"),
    lambda text: text.encode("utf-8", "replace").replace(b"0", b"0" * 5000, 1),
    lambda text: text.encode("utf-8", "replace").replace(b"16", b"1" * 5000),
)


def edit(random: Random, whole: dict[str, Any]) -> None:
    """Change one thing that a manifest says of its model; it may stay one that is read."""
    with suppress(AttributeError, IndexError, KeyError, TypeError):  # one before changed its type
        random.choice(_EDITS)(random, whole)


def _sizes(random: Random, whole: dict[str, Any]) -> None:
    sizes = random.choice(
        ((16, 16), (64, 64), (0, 0), (-64, 64), (2**40, 2**40), (48, 80), (64,), (1, 1))
    )
    patch = random.choice((16, 8, 32, 1, 0, -16, 2**62, 64))
    if "preprocess" in whole:
        whole["preprocess"] |= random.choice(
            ({"sides": list(sizes)}, {"patch": patch}, {"sides": list(sizes), "patch": patch})
        )
    else:
        whole |= random.choice(({"image_size": sizes[0]}, {"patch_size": patch}))


def _text(random: Random, whole: dict[str, Any]) -> None:
    text = whole.get("text") or whole.get("caption")
    if not isinstance(text, dict) or not text:
        return
    key = random.choice(list(text))
    number = random.choice((-1, 0, 1, 2, 3, 4, 5, 10**6, 2**31, 2**63 - 1, -(2**63), 2**64))
    text[key] = number if isinstance(text[key], int) else random.choice((*ODD_TEXT, None))


def _files(random: Random, whole: dict[str, Any]) -> None:
    files = whole.get("files")
    if not isinstance(files, dict) or not files:
        return
    key = random.choice(list(files))
    way = random.randrange(4)
    if way == 0:
        files[random.choice(_NAMES)] = files.pop(key)
    elif way == 1:
        files[random.choice(_NAMES)] = files[key]
    elif way == 2:
        files[key] = {"size": random.choice(ODD_NUMBERS), "sha256": random.choice(ODD_TEXT)}
    else:
        for graph in whole.get("graphs", {}).values():
            graph[random.choice(("file", "weights"))] = random.choice((*_NAMES, *files))


def _graph(random: Random, whole: dict[str, Any]) -> None:
    graphs = whole.get("graphs")
    if not isinstance(graphs, dict) or not graphs:
        return
    name = random.choice(list(graphs))
    graph = graphs[name]
    way = random.randrange(8)
    if way == 0:
        graphs[random.choice((*ODD_TEXT, *graphs))] = graphs.pop(name)
        return
    if way == 1:
        graph["lengths"] = {"tokens": random.choice(([], [0], [-1], [10**18], [64, 16], [1] * 9))}
    elif way == 2:
        graph["limits"] = random.choice(({}, {"tokens": 0}, {"kept": -1}, {"tokens": 2**62}))
    elif way == 3:
        graph["roles"] = random.choice(
            ({}, {"batch": "padded"}, {"tokens": "rows"}, {"none": "rows"}, {"batch": "shared"})
        )
    elif way == 4:
        tensors = graph.get(random.choice(("inputs", "outputs"))) or {"x": {}}
        tensors[random.choice(("x", "pixel_values", *tensors))] = {
            "dtype": random.choice(
                ("float32", "int64", "float16", "nonsense", "O", "V8", "", "U3")
            ),
            "shape": random.choice(
                ([], [1], ["batch"], [-1], [0], ["", 2**62, 2**62], ["kept"] * 70)
            ),
        }
    elif way == 5:
        tensors = graph.get(random.choice(("inputs", "outputs")))
        if tensors:
            tensor = tensors.pop(random.choice(list(tensors)))
            if random.random() < 0.5:
                tensors[random.choice(ODD_TEXT)] = tensor
    elif way == 6:
        graph["only_for"] = random.choice(({"drop_mode": "pixels"}, {"": ""}, {"nothing": "x"}))
    else:
        tensors = graph.get(random.choice(("inputs", "outputs"))) or {}
        for tensor in tensors.values():
            tensor["shape"] = [random.choice((one, one, 1, "batch", -1)) for one in tensor["shape"]]


def _other(random: Random, whole: dict[str, Any]) -> None:
    key = random.choice(list(whole))
    whole[key] = odd_value(random)


def _reading(random: Random, whole: dict[str, Any]) -> None:
    whole[random.choice(("layer", "head"))] = random.choice(
        (-1, 0, 99, [], [0, 0], [10**18], 2**64)
    )
    whole["all_heads"] = random.choice((True, False))


def _chosen(random: Random, whole: dict[str, Any]) -> None:
    settings = whole.get("settings")
    if isinstance(settings, dict) and settings:
        settings[random.choice(list(settings))] = random.choice(
            (odd_value(random), 10**9, "attention", "tokens", 0.5, 40, True)
        )


_EDITS = (_sizes, _text, _files, _graph, _graph, _graph, _other, _reading, _chosen)
