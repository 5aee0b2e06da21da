"""Makes model folders for the fake runtime: as small as they can be, whole or damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

DEMO = Path(str(resources.files("pnp_ovss.engine") / "data" / "demo"))
MOST = 30  # members of an object that are looked at: more than any has, but a vocabulary
SIDE, PATCH, DEPTH, CONTEXT = 32, 8, 6, 12
CELLS = (SIDE // PATCH) ** 2


def small_manifest() -> dict[str, Any]:
    """Make the manifest of the demo model with other sizes; `files` is that of the demo model."""
    manifest = json.loads((DEMO / "manifest.json").read_text(encoding="utf-8"))
    manifest["preprocess"] |= {"sides": [SIDE, SIDE], "patch": PATCH}
    manifest["text"]["context"] = CONTEXT
    manifest["settings"]["crf"] = None  # it would take most of the time
    graphs = manifest["graphs"]
    sizes = {256: SIDE, 257: 1 + CELLS, 192: DEPTH}
    for name, graph in graphs.items():
        for tensor, told in (graph["inputs"] | graph["outputs"]).items():
            if tensor in ("salience", "patch_keep"):
                told["shape"][-1] = CELLS
            else:
                told["shape"] = [sizes.get(size, size) for size in told["shape"]]
        if name == "salience":
            graph["limits"], graph["lengths"] = {"tokens": CONTEXT}, {"tokens": [CONTEXT]}
    return manifest


def make_folder(folder: Path, *, swapped: bool = False) -> Path:
    """Write a small model folder for the fake runtime.

    Args:
        folder: it is made.
        swapped: whether two words of the vocabulary have each other's number.
    """
    (folder / "onnx").mkdir(parents=True)
    manifest = small_manifest()
    tokenizer = (DEMO / "tokenizer.json").read_text(encoding="utf-8")
    if swapped:
        tokenizer = tokenizer.replace('"cat":22', '"cat":37').replace('"frog":37', '"frog":22')
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    for name in manifest["files"]:
        if name.endswith(".onnx"):
            (folder / name).write_text(f"stub {SIDE} {SIDE} {PATCH} {DEPTH}\n", encoding="ascii")
        elif name.endswith("_data"):
            (folder / name).write_bytes(bytes(range(256)))
    record(folder, manifest)
    return folder


def record(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest, with what its files are now."""
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"][name] = {"size": len(data), "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def copy_of(folder: Path, to: Path) -> Path:
    return shutil.copytree(folder, to)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Tell where values of a JSON text lie, arrays and objects included: all but those of lists."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in list(value)[:MOST]:
            yield from leaves(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value))[:3]:
            yield from leaves(value[index], (*path, index))


def changed(value: Any, path: tuple[str | int, ...], to: Any) -> Any:
    """Copy a JSON value with another one at a place; without the place where that is REMOVED."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if to is REMOVED:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return copy


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


REMOVED: Any = object()
