"""What may be fixed in a fused graph: classes, the size of the labels, pixels of 8 bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pnp_ovss.engine import InputError, ModelError, Segmenter, Settings
from pnp_ovss.engine.inputs.images import load_rgb, model_input, resize
from pnp_ovss.engine.inputs.names import clean_names
from pnp_ovss.engine.methods.pnp_ovss.fused import caption_inputs
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.export import export
from pnp_ovss.export.fused import Fused, fused_graph, write_fused
from tests import thresholds
from tests.conftest import SAMPLES, Exported
from tests.export.fused.hosts import HOSTS, off

SIZE = (480, 640)
CLASSES = [["turtle", "umbrella", "sand", "snow"], ["cat"], ["birthday cake", "penguin"]]
SYNONYMS = clean_names([["turtle", "frog"], "umbrella", ["sand", "pebbles", "water"]])


def fixed(**changes: Any) -> Fused:
    return Fused(settings=open_model("demo").manifest.settings, **changes)


def images() -> list[Any]:
    return [load_rgb(path) for path in sorted(SAMPLES.glob("*.jpg"))]


def pixels(*, uint8: bool) -> dict[str, np.ndarray]:
    preprocess = open_model("demo").manifest.preprocess
    if uint8:
        return {"pixels": np.stack([resize(image, preprocess) for image in images()])}
    return {"pixel_values": np.stack([model_input(image, preprocess) for image in images()])}


@pytest.fixture(scope="module")
def segmenter():
    with Segmenter.load("demo", backend="onnxruntime", device="cpu") as loaded:
        yield loaded


@pytest.mark.slow
def test_pixels_of_8_bits_are_normalized(tmp_path: Path):
    model, one_pass = open_model("demo"), fixed()
    one_pass = replace(one_pass, settings=replace(one_pass.settings, passes=1))
    captions = caption_inputs(model, CLASSES, one_pass.settings)
    found = []
    for uint8 in (False, True):
        path = tmp_path / f"{uint8}.onnx"
        write_fused(model, replace(one_pass, uint8=uint8), path)
        found.append(HOSTS["onnxruntime"](path, {**pixels(uint8=uint8), **captions}))
    for name, value in found[0].items():
        np.testing.assert_array_equal(found[1][name], value)


@pytest.mark.slow
@pytest.mark.parametrize("background", ["always", "auto", "never"])
@pytest.mark.parametrize("host", HOSTS)
def test_labels_of_the_samples(tmp_path: Path, segmenter: Segmenter, host: str, background: Any):
    """On every pixel, with captions of other lengths and other numbers of classes."""
    settings = replace(segmenter.settings, crf=None, background=background)
    model, path = open_model("demo"), tmp_path / "segment.onnx"
    write_fused(model, Fused(settings=settings, output_size=SIZE, uint8=True), path)
    feeds = {**pixels(uint8=True), **caption_inputs(model, CLASSES, settings)}
    found = HOSTS[host](path, feeds)
    for labels, image, classes in zip(found["labels"], images(), CLASSES, strict=True):
        assert image.size == SIZE[::-1]
        wanted = segmenter.segment(image, classes, settings=settings)
        np.testing.assert_array_equal(labels, wanted.labels)


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
def test_fixed_classes_with_synonyms(tmp_path: Path, segmenter: Segmenter, host: str):
    path = tmp_path / "segment.onnx"
    for background in ("always", "auto"):  # three classes of six names
        settings = replace(segmenter.settings, crf=None, background=background)
        fused = Fused(settings=settings, classes=tuple(SYNONYMS), output_size=SIZE)
        write_fused(open_model("demo"), fused, path)
        found = HOSTS[host](path, pixels(uint8=False))
        assert found["class_maps"].shape[1] == len(SYNONYMS)
        for row, image in enumerate(images()):
            wanted = segmenter.segment(image, SYNONYMS, settings=settings)
            assert off(found["class_maps"][row], wanted.class_maps) < thresholds.FUSED
            np.testing.assert_array_equal(found["labels"][row], wanted.labels)


@pytest.mark.slow
def test_fixed_classes_are_those_of_the_inputs(exported: Exported, tmp_path: Path):
    model = open_model(exported.folder)
    settings = Settings(passes=2, drop_mode="attention", sum_last_class=True)
    classes = ["traffic light", "cat", "an old tree"]
    image = np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)
    write_fused(model, Fused(settings=settings), tmp_path / "inputs.onnx")
    feeds = {"pixel_values": image, **caption_inputs(model, [classes] * 2, settings)}
    wanted = HOSTS["onnxruntime"](tmp_path / "inputs.onnx", feeds)
    fused = Fused(settings=settings, classes=tuple(clean_names(classes)))
    write_fused(model, fused, tmp_path / "fixed.onnx")
    found = HOSTS["onnxruntime"](tmp_path / "fixed.onnx", {"pixel_values": image})
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6 * value.max())


def test_what_the_manifest_tells():
    graph = fused_graph(open_model("demo"), fixed(output_size=(30, 40)))
    assert graph.roles == {"batch": "rows", "tokens": "padded", "classes": "classes"}
    assert graph.lengths == {"tokens": [16, 32, 64], "classes": [64]}
    assert graph.limits == {"tokens": 64, "classes": 64}
    assert graph.baked == fixed(output_size=(30, 40)).baked
    assert graph.baked
    assert graph.baked.settings.crf is None
    assert graph.baked.classes is None
    alone = fused_graph(open_model("demo"), fixed(classes=tuple(SYNONYMS)))
    assert (alone.roles, alone.lengths, alone.limits) == ({"batch": "rows"}, {}, {})
    assert alone.baked
    assert alone.baked.classes == [["turtle", "frog"], ["umbrella"], ["sand", "pebbles", "water"]]


def test_what_no_fused_graph_does_is_not_recorded():
    baked = Fused(settings=Settings(refine_side=64)).baked
    assert (baked.settings.crf, baked.settings.refine_side) == (None, None)


@pytest.mark.parametrize(
    ("changes", "message", "cure"),
    [
        ({"settings": Settings(drop_mode="tokens")}, "drop_mode is 'tokens'", "attention"),
        ({"output_size": (0, 5)}, "the output size is 0x5", "1 to 32768 pixels"),
        ({"output_size": (5, 1 << 20)}, "the output size is 5x1048576", "1 to 32768 pixels"),
    ],
)
def test_what_cannot_be_fixed(changes: dict[str, Any], message: str, cure: str):
    with pytest.raises(InputError, match=message) as caught:
        Fused(**{"settings": Settings(), **changes})
    assert cure in caught.value.cure


def test_names_that_do_not_fit_into_one_caption():
    names = tuple(open_model("demo").manifest.classes)
    with pytest.raises(InputError, match=r"only \d+ of 40 names fit"):
        fused_graph(open_model("demo"), fixed(classes=names))


def test_a_model_for_tuning(exported: Exported, tmp_path: Path):
    checkpoint = str(exported.checkpoint)
    with pytest.raises(ModelError, match="all_heads, for tuning, has no fused graph"):
        export(checkpoint, tmp_path / "m", image_size=64, all_heads=True, fused=fixed())
    assert not list(tmp_path.iterdir())
    model = open_model(exported.folder)
    tuning = replace(model, manifest=replace(model.manifest, all_heads=True))
    with pytest.raises(ModelError, match="was exported with --all-heads"):
        fused_graph(tuning, fixed())
    other = replace(model, manifest=replace(model.manifest, method="patch-text"))
    with pytest.raises(ModelError, match="is for the method 'patch-text'"):
        fused_graph(other, fixed())
