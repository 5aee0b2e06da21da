"""A model folder that the version before manifests had graphs wrote, and the labels it gave.

`version_1/` is a random BLIP of two layers, exported by commit 1af7763 (schema version 1), and
`version_1_labels/` what that commit made of `image.png` on ONNX Runtime's CPU provider, with the
paper's settings in each drop mode.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import ModelError, Segmenter, Settings
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.model.manifest import MANIFEST, SCHEMA_VERSION
from pnp_ovss.engine.runners import open_runner
from pnp_ovss.engine.settings import CHOICES

FOLDER = Path(__file__).parent / "version_1"
WANTED = Path(__file__).parent / "version_1_labels"
NAMES = ["cat", "red boats", "tree"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copytree(FOLDER, tmp_path / "model"))


def change(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text()) | changes
    (folder / MANIFEST).write_text(json.dumps({k: v for k, v in manifest.items() if v != "gone"}))


@pytest.mark.parametrize("drop_mode", CHOICES["drop_mode"])
def test_it_gives_the_labels_that_it_gave(drop_mode: Any):
    assert json.loads((FOLDER / MANIFEST).read_text())["schema_version"] == 1
    with Segmenter.load(FOLDER, backend="onnxruntime", device="cpu") as segmenter:
        image = Image.open(WANTED / "image.png")
        result = segmenter.segment(image, NAMES, settings=Settings(drop_mode=drop_mode))
    labels = np.asarray(Image.open(WANTED / f"{drop_mode}.png"))
    assert len(np.unique(labels)) == 4
    np.testing.assert_array_equal(result.labels, labels)


def test_what_it_leaves_out_is_filled_in():
    model = open_model(FOLDER)
    manifest = model.manifest
    assert (manifest.schema_version, manifest.method) == (SCHEMA_VERSION, "pnp-ovss")
    assert (manifest.preprocess.sides, manifest.preprocess.grid) == ((64, 64), (4, 4))
    assert manifest.preprocess.mean == (0.48145466, 0.4578275, 0.40821073)
    assert (manifest.text.first_id, manifest.text.context) == (17, 24)
    assert list(manifest.graphs) == ["vision", "salience", "vision_tokens"]
    assert model.graph("salience").lengths == {"tokens": [16, 24]}
    assert model.graph("vision_tokens").lengths == {"kept": [17, 9, 5, 3]}
    for name, graph in manifest.graphs.items():  # but for a width, as in the files
        runner: Any = open_runner(model, name)
        for told, found in (
            (graph.inputs, runner._signature.inputs),
            (graph.outputs, runner._signature.outputs),
        ):
            assert list(told) == list(found)
            for key, tensor in told.items():
                shape = tuple(32 if size == "width" else size for size in tensor.shape)
                assert (tensor.dtype, shape) == (found[key].dtype, found[key].shape)
    Captioner.load(model)


def test_it_need_not_have_the_graph_of_some_tokens(folder: Path):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    del files["onnx/vision_tokens.onnx"]
    change(folder, files=files)
    with Segmenter.load(folder, backend="onnxruntime", device="cpu") as segmenter:
        image = Image.open(WANTED / "image.png")
        assert segmenter.segment(image, NAMES).labels.any()
        settings = Settings(drop_mode="tokens")
        with pytest.raises(ModelError, match="has no graph 'vision_tokens'") as caught:
            segmenter.segment(image, NAMES, settings=settings)
    assert "--image-size 64 --overwrite" in caught.value.cure


def test_it_need_not_tell_how_weights_are_stored(folder: Path):
    change(folder, weights="gone", trained="gone", classes="gone")
    manifest = open_model(folder).manifest
    assert (manifest.weights, manifest.trained, manifest.classes) == ("float32", True, [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"family": "bridgetower"}, "family 'bridgetower'"),
        ({"patch_size": 0}, "no multiple of its patch size 0"),
        ({"patch_size": 7}, "no multiple of its patch size 7"),
        ({"image_size": 0}, "image size 0x0"),
        ({"caption": "gone"}, "missing required field `caption`"),
        ({"settings": {"blur": 7}}, "blur is 7"),
        ({"dtype": "float16"}, "its dtype is 'float16'"),
    ],
    ids=str,
)
def test_one_that_cannot_be_used(folder: Path, changes: dict[str, Any], message: str):
    change(folder, **changes)
    with pytest.raises(ModelError, match=message):
        open_model(folder)
