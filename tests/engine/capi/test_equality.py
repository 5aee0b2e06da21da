"""Holds libpnp_ovss to the Python engine on the same ONNX Runtime: equal, not alike."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from benchmarks.contenders.c_library import CError, CSettings, Library, Model, Result, Tokens
from pnp_ovss.engine import Segmentation, Segmenter, Settings
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import scene
from pnp_ovss.engine.inputs.images import model_input
from pnp_ovss.engine.methods.pnp_ovss.fused import caption_inputs, join_names
from tests import thresholds
from tests.conftest import SAMPLES, Exported
from tests.engine.capi import built

pytestmark = pytest.mark.slow  # the library is built

PRESETS = {name: Settings.preset(name) for name in ("paper", "released")}
Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(built.library(tmp_path_factory), built.ort_library())


@pytest.fixture(scope="session")
def demo(library: Library) -> Iterator[tuple[Segmenter, Model]]:
    segmenter = Segmenter.load("demo", backend="onnxruntime", device="cpu", threads=1)
    with segmenter, Model(library, built.DEMO, threads=1) as model:
        yield segmenter, model


@pytest.fixture(scope="session")
def small(library: Library, exported: Exported) -> Iterator[tuple[Segmenter, Model]]:
    """A small random model with BERT's vocabulary."""
    segmenter = Segmenter.load(exported.folder, backend="onnxruntime", device="cpu", threads=1)
    with segmenter, Model(library, exported.folder, threads=1) as model:
        yield segmenter, model


def samples() -> list[tuple[Picture, list[str]]]:
    told = json.loads((SAMPLES / "samples.json").read_text())
    return [(np.array(Image.open(SAMPLES / one["file"])), one["classes"]) for one in told]


def check(found: Result, wanted: Segmentation) -> None:
    """Check that two results are equal, bit for bit."""
    np.testing.assert_array_equal(found.class_maps, wanted.class_maps)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    np.testing.assert_array_equal(found.present, wanted.present)
    np.testing.assert_array_equal(found.match[: len(wanted.match)], wanted.match)
    assert not found.match[len(wanted.match) :].any()


def compare(
    pair: tuple[Segmenter, Model],
    image: Picture,
    classes: list[Any],
    settings: Settings,
    present: Any = "given",
) -> Segmentation:
    segmenter, model = pair
    wanted = segmenter.segment(image, classes, settings=settings, present=present)
    check(model.segment(image, classes, CSettings.of(settings, present)), wanted)
    return wanted


@pytest.mark.parametrize("crf", [None, "densecrf"])
@pytest.mark.parametrize("preset", [*PRESETS, "recommended"])
def test_samples_are_equal(demo: tuple[Segmenter, Model], preset: str, crf: Any):
    settings = PRESETS.get(preset, demo[0].settings)
    if preset == "released":  # its joined names are none that the demo model knows
        settings = replace(settings, join_words=False)
    for image, classes in samples():
        wanted = compare(demo, image, classes, replace(settings, crf=crf))
        assert len(np.unique(wanted.labels)) > 2


CHANGES: dict[str, dict[str, Any]] = {
    "tokens": {"drop_mode": "tokens"},
    "attention": {"drop_mode": "attention"},
    "drops nothing": {"drop_schedule": 0},
    "drops all": {"drop_schedule": 1000, "drop_mode": "tokens"},
    "one pass": {"passes": 1},
    "weight": {"first_pass_weight": 3, "sum_last_class": True},
    "no background": {"background": "never", "threshold": 0.0},
    "automatic background": {"background": "auto", "blur": 0.0},
    "small side": {"refine_side": 100},
    "small side without CRF": {"refine_side": 100, "crf": None},
}


@pytest.mark.parametrize("change", CHANGES)
def test_settings_are_equal(small: tuple[Segmenter, Model], picture: Callable, change: str):
    settings = Settings(**{"passes": 3, **CHANGES[change]})
    image = np.array(picture(3, 130, 90))
    compare(small, image, ["cat", ["sofa", "couch"], "Größe der Straße"], settings)
    compare(small, image, ["a", "b"], settings)


def test_several_captions_and_presence_are_equal(small: tuple[Segmenter, Model], picture: Callable):
    image = np.array(picture(5, 90, 130))
    classes: list[Any] = [f"thing number {i}" for i in range(70)]
    classes[3] = ["sofa", "couch", "settee"]
    settings = Settings(passes=2, crf=None, sum_last_class=True)
    wanted = compare(small, image, classes, settings)
    middle = float(np.median(wanted.scores))
    settings = replace(settings, match_threshold=middle)
    some = compare(small, image, classes, settings, "match")
    assert 0 < sum(some.present) < len(classes)
    none = compare(small, image, classes, replace(settings, match_threshold=1.0), "match")
    assert not none.labels.any()


def test_joined_names_are_equal(small: tuple[Segmenter, Model], picture: Callable):
    settings = replace(PRESETS["released"], crf=None)
    compare(small, np.array(picture(7, 60, 70)), ["hot-dog stand", "potted plant"], settings)


def test_rows_of_the_image_and_the_labels_may_lie_apart(demo: tuple[Segmenter, Model]):
    segmenter, model = demo
    image, classes = samples()[0]
    wide = np.zeros((image.shape[0], image.shape[1] + 5, 3), np.uint8)
    wide[:, : image.shape[1]] = image
    found = model.segment(wide[:, : image.shape[1]], classes, CSettings.of(segmenter.settings))
    check(found, segmenter.segment(image, classes))


def test_a_batch_is_equal(library: Library, demo: tuple[Segmenter, Model]):
    segmenter, one = demo
    settings = CSettings.of(replace(segmenter.settings, crf=None))
    pairs = samples() * 2
    with Model(library, built.DEMO, threads=2) as two:
        for model in (one, two):  # the number of threads changes the last digits of a graph
            for found, (image, classes) in zip(
                model.segment_batch(pairs, settings), pairs, strict=True
            ):
                alone = model.segment(image, classes, settings)
                np.testing.assert_array_equal(found.labels, alone.labels)
                np.testing.assert_array_equal(found.class_maps, alone.class_maps)


def test_defaults_are_those_of_the_folder_and_the_presets(demo: tuple[Segmenter, Model]):
    segmenter, model = demo
    found = CSettings()
    model.library.call("settings_default", model.handle, ctypes.byref(found))
    assert bytes(found) == bytes(CSettings.of(segmenter.settings))
    for name, settings in PRESETS.items():
        model.library.call("settings_preset", name.encode(), ctypes.byref(found))
        assert bytes(found) == bytes(CSettings.of(settings))
    image, classes = samples()[0]
    nothing_set = CSettings(passes=segmenter.settings.passes)
    check(model.segment(image, classes, nothing_set), segmenter.segment(image, classes))


def test_stages_are_equal(library: Library, demo: tuple[Segmenter, Model]):
    segmenter, _ = demo
    image, classes = samples()[1]
    names: list[Any] = [classes[0], classes[1:3], *classes[3:]]
    settings = segmenter.settings
    with Model(library, built.DEMO, graphs=False, threads=1) as model:
        buffer = np.empty((3, 256, 256), np.float32)
        given = ctypes.byref(built_image := image_of(image))
        out = ctypes.c_void_p(buffer.ctypes.data)
        library.call("preprocess", model.handle, given, None, out)
        wanted = model_input(Image.fromarray(image), segmenter.model.manifest.preprocess)
        np.testing.assert_array_equal(buffer, wanted)

        with model.names(names) as made:
            feeds = tokens_of(library, made.handle, settings)
            for name, value in caption_inputs(segmenter.model, [names], settings).items():
                np.testing.assert_array_equal(feeds[name], value[0])
            maps = np.random.default_rng(0).random((len(classes), 16, 16), np.float32)
            joined = join_names(maps, names)
            address = ctypes.c_void_p(maps.ctypes.data)
            library.call("names_join", made.handle, model.handle, address, address)
            np.testing.assert_array_equal(maps[: len(names)], joined)

        labels = np.empty(image.shape[:2], np.uint16)
        arguments = address, None, ctypes.c_size_t(len(names)), None
        place = ctypes.c_void_p(labels.ctypes.data), ctypes.c_size_t(0)
        library.call("finish", model.handle, given, *arguments, *place)
        np.testing.assert_array_equal(labels, segmenter.refine(image, joined, settings))
        assert built_image.width == image.shape[1]
        with pytest.raises(CError, match="opened without a runtime"):
            model.segment(image, names, CSettings.of(settings))


def image_of(image: Picture) -> Any:
    from benchmarks.contenders.c_library import CImage

    return CImage(image.shape[1], image.shape[0], 0, image.ctypes.data)


def tokens_of(library: Library, names: Any, settings: Settings) -> dict[str, npt.NDArray[Any]]:
    tokens = Tokens()
    chosen = ctypes.byref(CSettings.of(settings))
    library.call("names_tokens", names, chosen, ctypes.byref(tokens))
    arrays = {
        "input_ids": np.empty(tokens.length, np.int64),
        "attention_mask": np.empty(tokens.length, np.int64),
        "class_tokens": np.empty((tokens.names, tokens.length), np.float32),
    }
    for name, array in arrays.items():
        setattr(tokens, name, array.ctypes.data)
    library.call("names_tokens", names, chosen, ctypes.byref(tokens))
    return arrays


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scenes", [10, pytest.param(200, marks=pytest.mark.long)])
def test_scenes_are_equal(demo: tuple[Segmenter, Model], preset: str, scenes: int):
    segmenter, model = demo
    settings = replace(PRESETS[preset], join_words=False)
    differing = pixels = 0
    for index in range(scenes):
        drawn = scene("stickers", 0, index)
        image, classes = np.array(drawn.image), list(drawn.classes)
        for crf in (None, "densecrf"):
            chosen = replace(settings, crf=crf)
            found = model.segment(image, classes, CSettings.of(chosen))
            wanted = segmenter.segment(image, classes, settings=chosen)
            np.testing.assert_array_equal(found.class_maps, wanted.class_maps)
            differing += int((found.labels != wanted.labels).sum())
            pixels += found.labels.size
    print(f"{preset}: {differing} of {pixels} labels differ")
    assert differing <= thresholds.C_LABELS * pixels
