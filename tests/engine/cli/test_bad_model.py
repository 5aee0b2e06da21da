"""Models, backends and devices that cannot be used, on the command line."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pnp_ovss.engine.model.folder import record_of
from pnp_ovss.engine.model.manifest import MANIFEST, TOKENIZER
from tests.engine.cli.command_line import assert_short, in_a_process, segment

pytestmark = pytest.mark.usefixtures("workplace")
CACHE_VARIABLES = ("XDG_CACHE_HOME", "HF_HOME")
VISION, SALIENCE = "onnx/vision.onnx", "onnx/salience.onnx"


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


BAD_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda m: (m / "manifest.json").unlink(), "not a model folder"),
    "half a manifest": (
        lambda m: os.truncate(m / "manifest.json", 200),
        "manifest.json' is damaged",
    ),
    "missing": (lambda m: (m / VISION).unlink(), "vision.onnx' is missing"),
    "truncated": (lambda m: os.truncate(m / SALIENCE, 99), "has 99 bytes instead of"),
    "edited": (lambda m: flip_a_bit(m / TOKENIZER), "was changed: its sha256"),
    "newer": (
        lambda m: (m / "manifest.json").write_text('{"schema_version": 3}'),
        "schema version 3",
    ),
    "wrong setting": (
        lambda m: (m / "manifest.json").write_text(
            (m / "manifest.json").read_text().replace('"blur": 0.05', '"blur": 7')
        ),
        "blur is 7",
    ),
    "gone": (shutil.rmtree, "no model folder at"),
}


@pytest.mark.parametrize(("spoil", "cause"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_a_model_folder_that_cannot_be_used(
    refused: Callable[..., str],
    model_copy: Path,
    spoil: Callable[[Path], object],
    cause: str,
) -> None:
    spoil(model_copy)
    said = refused(*segment("cat.jpg", "--json", "--model", model_copy))
    assert cause in said
    assert str(model_copy) in said
    assert not Path("out").exists()


def test_a_graph_that_onnx_runtime_cannot_load(
    refused: Callable[..., str], model_copy: Path
) -> None:
    (model_copy / VISION).write_bytes(b"not a graph")
    manifest = json.loads((model_copy / MANIFEST).read_text())
    record = record_of(model_copy / VISION)
    manifest["files"][VISION] = {"size": record.size, "sha256": record.sha256}
    (model_copy / MANIFEST).write_text(json.dumps(manifest))
    assert "cannot load" in refused(*segment("cat.jpg", "--model", model_copy))


@pytest.mark.parametrize("model", ["m" * 300, "~no_such_user_here/model", "", "cat.jpg"])
def test_a_model_that_is_no_folder(refused: Callable[..., str], model: str) -> None:
    assert "model folder" in refused(*segment("cat.jpg", "--model", model))


@pytest.mark.slow
def test_a_hub_id_without_network(workplace: Path) -> None:
    pytest.importorskip("torch")
    caches = {name: str(workplace / name) for name in CACHE_VARIABLES}
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    done = in_a_process(
        segment("cat.jpg", "--json", "--model", "org/name"), env={**os.environ, **caches, **nobody}
    )
    assert done.returncode == 2
    assert done.stdout == ""
    first, *said = done.stderr.splitlines(keepends=True)
    assert first == "loading org/name\n"
    assert_short("".join(said))
    assert "cannot fetch 'org/name'" in said[0]
    assert "network" in said[1]
    assert not list(workplace.glob("XDG_CACHE_HOME/**/*.json"))
    assert not Path("out").exists()


def test_a_hub_id_without_pytorch(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pnp_ovss.export.exporter", None)
    said = refused(*segment("cat.jpg", "--model", "org/name"))
    assert "pip install 'pnp-ovss[export]'" in said


def test_a_crf_that_is_not_installed(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    words = ["segment", "cat.jpg", "-c", "water", "-o", "out", "--crf", "pydensecrf"]
    said = refused(*words)
    assert "pydensecrf2" in said
    assert "--crf densecrf" in said
    assert not Path("out").exists()


@pytest.mark.parametrize(("backend", "extra"), [("onnxruntime", "cpu"), ("openvino", "openvino")])
def test_a_backend_that_is_not_installed(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, backend: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    for name in ("onnxruntime", "onnxruntime_sessions", "openvino"):
        monkeypatch.delitem(sys.modules, f"pnp_ovss.engine.runners.{name}", raising=False)
    said = refused(*segment("cat.jpg", "--backend", backend))
    assert f"pip install 'pnp-ovss[{extra}]'" in said


def test_a_device_that_is_not_there(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # an import of it fails
    said = refused(*segment("cat.jpg", "--device", "cuda"))
    assert "device 'cuda' cannot be used: CuPy is not installed" in said
