"""Make model folders whose files are damaged, and whose manifest says that they are as they are."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx

from pnp_ovss.engine.model.folder import record_of
from pnp_ovss.engine.model.manifest import MANIFEST, TOKENIZER
from tests.fuzz.manifests import DEMO, VERSION_1, bases, edit
from tests.fuzz.mutate import damage_json, damaged

_OF_NOTHING = hashlib.sha256().hexdigest()
_FLOAT, _INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def make(random: Random, place: Path) -> Path:
    """Make a model folder in `place`; of ten, nine are damaged."""
    folder = place / "model"
    kind = random.randrange(6)  # small ones are loaded at once
    shutil.copytree(DEMO if kind == 0 else VERSION_1, folder)
    if kind > 2:
        (folder / MANIFEST).write_bytes(bases()[1])
    if random.random() < 0.9:
        random.choice(_DAMAGES)(random, folder)
    if random.random() < 0.95:
        record(folder)
    return folder


def record(folder: Path) -> None:
    """Write the sizes and digests of the files, as they are now, into the manifest."""
    if not (folder / MANIFEST).is_file():
        return
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        for name in manifest["files"]:
            path = folder / name
            if path.is_file():
                found = record_of(path)
                manifest["files"][name] = {"size": found.size, "sha256": found.sha256}
            elif path.exists():  # a pipe, a device
                manifest["files"][name] = {"size": path.stat().st_size, "sha256": _OF_NOTHING}
        (folder / MANIFEST).write_text(json.dumps(manifest))
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return  # it is damaged itself


def _pick(random: Random, folder: Path, suffix: str) -> Path:
    return random.choice(sorted(folder.glob(f"onnx/*{suffix}")))


def _graph_bytes(random: Random, folder: Path) -> None:
    path, other = _pick(random, folder, ".onnx"), _pick(random, folder, ".onnx")
    path.write_bytes(damaged(random, path.read_bytes(), other.read_bytes()))


def _graph(random: Random, folder: Path) -> None:
    path = _pick(random, folder, ".onnx")
    model = onnx.load(path, load_external_data=False)
    for _ in range(random.choice((1, 1, 2))):
        random.choice(_GRAPH_EDITS)(random, model)
    path.write_bytes(model.SerializeToString())


def _external(random: Random, model: Any) -> None:
    """Change where the weights of a tensor lie."""
    outside = [one for one in model.graph.initializer if one.external_data]
    if not outside:
        return
    for entry in random.choice(outside).external_data:
        if entry.key == "location":
            entry.value = random.choice(
                (entry.value, "", "../manifest.json", "/dev/zero", "x" * 300, ".")
            )
        elif random.random() < 0.7:
            numbers = (-1, 1, 3, 10**6, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 4, 10**30, "x", "")
            entry.value = str(random.choice(numbers))


def _stored(random: Random, model: Any) -> None:
    """Change shape, type or values of a stored tensor."""
    tensor = random.choice(model.graph.initializer)
    way = random.randrange(5)
    if way == 0 and tensor.dims:
        place = random.randrange(len(tensor.dims))
        tensor.dims[place] = random.choice((0, -1, 1, 2**31, 2**62, tensor.dims[place] * 2))
    elif way == 1:
        tensor.data_type = random.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 16, 23, 99))
    elif way == 2:
        tensor.raw_data = damaged(random, tensor.raw_data)
    elif way == 3:
        del tensor.dims[:]
        tensor.dims.extend(random.choice(([], [0], [2**32, 2**32], [1] * 20, [7, 3])))
    else:
        tensor.name = random.choice(("", "gone", random.choice(model.graph.initializer).name))


def _number(random: Random, model: Any) -> None:
    """Change a number that is stored in the graph, such as an axis or a shape."""
    numbers = [one for one in model.graph.initializer if one.data_type == _INT and one.raw_data]
    if numbers:
        tensor = random.choice(numbers)
        values = np.frombuffer(tensor.raw_data, np.int64).copy()
        if values.size:
            odd = (0, -1, 1, 2, 7, 1000, 2**31, 2**40, 2**62, -(2**63))
            values[random.randrange(values.size)] = random.choice(odd)
            tensor.raw_data = values.tobytes()


def _operator(random: Random, model: Any) -> None:
    """Change, remove, or repeat an operator, or wire it otherwise."""
    nodes = model.graph.node
    node = random.choice(nodes)
    way = random.randrange(7)
    if way == 0:
        kinds = (
            "MatMul",
            "Add",
            "Gather",
            "Reshape",
            "Transpose",
            "Nothing",
            "Loop",
            "If",
            "Softmax",
            "",
        )
        node.op_type = random.choice(kinds)
    elif way == 1:
        nodes.remove(node)
    elif way == 2:
        nodes.append(node)
    elif way == 3 and node.input:
        place = random.randrange(len(node.input))
        node.input[place] = random.choice(
            ("", "gone", random.choice(nodes).output[0], node.output[0])
        )
    elif way == 4 and node.input:
        del node.input[random.randrange(len(node.input))]
    elif way == 5:
        node.output[0] = random.choice((*random.choice(nodes).output, ""))
    elif node.attribute:
        attribute = random.choice(node.attribute)
        attribute.i = random.choice((-1, 0, 1, 99, 2**31, 2**62, -(2**63)))
        attribute.f = random.choice((0.0, -1.0, 1e38, float("nan")))
        if attribute.ints:
            attribute.ints[random.randrange(len(attribute.ints))] = random.choice(
                (-1, 0, 99, 2**62)
            )


def _interface(random: Random, model: Any) -> None:
    """Change an input or output of the graph."""
    values = random.choice((model.graph.input, model.graph.output))
    value = random.choice(values)
    way = random.randrange(6)
    if way == 0:
        value.name = random.choice(("", "renamed", random.choice(model.graph.node).output[0]))
    elif way == 1:
        values.remove(value)
    elif way == 2:
        value.type.tensor_type.elem_type = random.choice((0, 1, 6, 7, 8, 9, 10, 11, 16, 99))
    elif way == 3 and value.type.tensor_type.shape.dim:
        one = random.choice(value.type.tensor_type.shape.dim)
        if random.random() < 0.5:
            one.dim_value = random.choice((0, -1, 1, 2, 99, 2**31, 2**62))
        else:
            one.dim_param = random.choice(("", "other", "batch", "tokens"))
    elif way == 4:
        del value.type.tensor_type.shape.dim[:]
    else:
        values.add().CopyFrom(onnx.helper.make_tensor_value_info("more", _FLOAT, [1]))


def _version(random: Random, model: Any) -> None:
    way = random.randrange(3)
    if way == 0:
        model.opset_import[0].version = random.choice((-1, 0, 1, 7, 13, 19, 99, 2**62))
    elif way == 1:
        model.opset_import[0].domain = random.choice(("com.microsoft", "nowhere", "\0"))
    else:
        model.ir_version = random.choice((-1, 0, 3, 99, 2**62))


_GRAPH_EDITS = (
    _external,
    _external,
    _stored,
    _stored,
    _number,
    _operator,
    _operator,
    _interface,
    _version,
)


def _swap(random: Random, folder: Path) -> None:
    suffix = random.choice((".onnx", ".onnx_data", ""))
    one, other = _pick(random, folder, suffix), _pick(random, folder, suffix)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _weights(random: Random, folder: Path) -> None:
    path = _pick(random, folder, "_data")
    data = path.read_bytes()
    values = np.frombuffer(data, np.float32).copy()
    way = random.randrange(8)
    if way == 0:
        values[:] = random.choice((np.nan, np.inf, -np.inf, 0, 1e38, -1e38, 1e-45))
    elif way == 1:
        values[random.randrange(len(values))] = random.choice((np.nan, np.inf, 1e38))
    elif way == 2:
        values *= random.choice((-1, 1e10, 1e30, 0))
    if way < 3:
        path.write_bytes(values.tobytes())
    elif way < 5:
        os.truncate(
            path, random.choice((0, 1, 4096, len(data) // 2, len(data) - 1, len(data) - 64))
        )
    elif way < 7:
        path.write_bytes(damaged(random, data))
    else:
        os.truncate(path, len(data) * 2)


def _tokenizer(random: Random, folder: Path) -> None:
    path = folder / TOKENIZER
    whole = json.loads(path.read_bytes())
    way = random.randrange(8)
    if way < 4:
        damage_json(random, whole)
    elif way == 4:
        whole["model"] = random.choice(_MODELS)
    elif way == 5:
        vocabulary = whole["model"]["vocab"]
        odd = (-1, 0, 3, 2**31, 2**32 - 1, 2**32, 10**6)
        vocabulary[random.choice((*vocabulary, "cat", ""))] = random.choice(odd)
    elif way == 6:
        whole[
            random.choice(
                ("normalizer", "pre_tokenizer", "post_processor", "truncation", "padding")
            )
        ] = random.choice(_PARTS)
    else:
        path.write_bytes(damaged(random, path.read_bytes()))
        return
    path.write_text(json.dumps(whole))


_MODELS: tuple[Any, ...] = (
    {"type": "WordPiece", "vocab": {}, "unk_token": "[UNK]", "continuing_subword_prefix": "##"},
    {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "none", "max_input_chars_per_word": 0},
    {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]},
    {"type": "BPE", "vocab": {"a": 0, "b": 2**31, "ab": 5}, "merges": [["a", "b"]], "dropout": 1.0},
    {"type": "BPE", "vocab": {}, "merges": [], "unk_token": "x", "fuse_unk": True},
    {"type": "Unigram", "vocab": [], "unk_id": 7},
    {"type": "Unigram", "vocab": [["a", float("nan")], ["", 0.0]], "unk_id": 0},
    {"type": "Unigram", "vocab": [["a", -1.0]], "unk_id": None},
    {"type": "WordLevel", "vocab": {"cat": 1}, "unk_token": "none"},
)
_PARTS: tuple[Any, ...] = (
    None,
    {"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": "x"},
    {"type": "Replace", "pattern": {"Regex": "("}, "content": "x"},
    {"type": "Replace", "pattern": {"String": ""}, "content": "x"},
    {"type": "Prepend", "prepend": "x" * 10**6},
    {"type": "Sequence", "normalizers": [], "pretokenizers": [], "processors": []},
    {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
    {"type": "Precompiled", "precompiled_charsmap": "/////wAA"},
    {"type": "Precompiled", "precompiled_charsmap": ""},
    {"type": "FixedLength", "length": 0},
    {"type": "TemplateProcessing", "single": ["$A"], "pair": ["$A"], "special_tokens": {}},
    {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0},
    {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 5},
    {
        "strategy": {"Fixed": 40},
        "direction": "Left",
        "pad_to_multiple_of": 0,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "x",
    },
)


def _manifest(random: Random, folder: Path) -> None:
    whole = json.loads((folder / MANIFEST).read_bytes())
    for _ in range(random.choice((1, 1, 2))):
        edit(random, whole)
    (folder / MANIFEST).write_text(json.dumps(whole))


def _kind(random: Random, folder: Path) -> None:
    """Put something in the place of a file that is none."""
    path = random.choice([folder / MANIFEST, folder / TOKENIZER, *sorted(folder.glob("onnx/*"))])
    copy = folder / "copy"
    path.rename(copy)
    random.choice(_KINDS)(path, copy)


def _bind(path: Path, _: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path has a hundred bytes at most
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def _no_permission(path: Path, copy: Path) -> None:
    copy.rename(path)
    path.chmod(0)


_KINDS: tuple[Callable[[Path, Path], object], ...] = (
    lambda path, _: path.mkdir(),
    lambda path, _: os.mkfifo(path),
    _bind,
    _no_permission,
    lambda path, _: path.symlink_to(path.name),
    lambda path, _: path.symlink_to("nowhere"),
    lambda path, _: path.symlink_to("/dev/zero"),
    lambda path, _: path.symlink_to(path.parent),
    lambda path, copy: path.symlink_to(copy),
)

_DAMAGES = (
    *(_graph_bytes, _graph_bytes, _graph, _graph, _graph, _graph, _swap, _weights, _tokenizer),
    *(_tokenizer, _manifest, _manifest, _manifest, _kind),
)
