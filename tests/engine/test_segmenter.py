from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.baselines.eager import PRESETS, EagerSegmenter, Maps
from pnp_ovss.engine import (
    BackendError,
    ExecutionError,
    InputError,
    ModelError,
    Segmentation,
    Segmenter,
    Settings,
)
from pnp_ovss.engine.inputs.images import model_input
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.methods.pnp_ovss import graphs
from pnp_ovss.engine.settings import CHOICES
from pnp_ovss.export import export
from pnp_ovss.export.models.base import Choice
from pnp_ovss.export.models.blip.eager import autograd_salience
from tests import thresholds
from tests.conftest import IMAGE_SIZE, Exported

CLASSES = [
    ["cat"],
    ["potted plant", "zebra"],
    ["dog", "tv-monitor", "hot air balloon"],
    ["sky", "antidisestablishmentarianism", "fire engine", "x-ray machine"],
    ["car", "bus", "traffic light", "person", "dining table"],
    ["grass", "water", "cow", "playing field", "wall-concrete", "Scissors"],
]


FORMS = ["lean", pytest.param("released", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=FORMS)
def eager(request, exported: Exported, fast_tokenizer) -> EagerSegmenter:
    return eager_of(request.param, exported, fast_tokenizer)


def eager_of(form: Any, exported: Exported, fast_tokenizer) -> EagerSegmenter:
    return EagerSegmenter(
        exported.model,
        fast_tokenizer,
        image_size=IMAGE_SIZE,
        layers=[2],
        heads=[3],
        form=form,
    )


def assert_maps_agree(found: Segmentation, wanted: Maps) -> None:
    assert wanted.class_maps.max() > 0
    difference = np.abs(found.class_maps - wanted.class_maps).max()
    assert difference <= thresholds.CLASS_MAPS * wanted.class_maps.max()
    np.testing.assert_allclose(found.match, wanted.match, rtol=0, atol=thresholds.MATCH)


@pytest.mark.parametrize("drop_mode", CHOICES["drop_mode"])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("classes", CLASSES, ids=len)
def test_class_maps_are_those_of_eager_pytorch(
    segmenter, eager, picture, classes, preset, drop_mode
):
    image = picture(len(classes))
    wanted = eager.maps(image, classes, replace(PRESETS[preset], drop_mode=drop_mode))
    settings = Settings.preset(preset, drop_mode=drop_mode, crf=None)
    assert_maps_agree(segmenter.segment(image, classes, settings=settings), wanted)


@pytest.mark.parametrize("drop_mode", CHOICES["drop_mode"])
@pytest.mark.parametrize("preset", PRESETS)
def test_class_maps_are_those_of_the_released_form(
    segmenter, exported, fast_tokenizer, picture, preset, drop_mode
):
    """One case of each; all of them are slow."""
    released = eager_of("released", exported, fast_tokenizer)
    test_class_maps_are_those_of_eager_pytorch(
        segmenter, released, picture, CLASSES[2], preset, drop_mode
    )


@pytest.mark.parametrize("drop_mode", CHOICES["drop_mode"])
@pytest.mark.parametrize("count", [0, 13, 36, 1000])
def test_a_batch_that_drops_none_some_or_all_of_its_patches(
    segmenter, eager, picture, count, drop_mode
):
    """Of 36 patches; each picture drops others."""
    preset = replace(PRESETS["paper"], drops=count, drop_mode=drop_mode)
    settings = Settings(drop_schedule=count, drop_mode=drop_mode, crf=None)
    pairs = [(picture(seed), CLASSES[seed]) for seed in range(4)]
    for pair, found in zip(pairs, segmenter.segment_batch(pairs, settings=settings), strict=True):
        assert_maps_agree(found, eager.maps(*pair, preset))


@pytest.mark.parametrize("background", ["always", "never"])
@pytest.mark.parametrize("crf", ["densecrf", "pydensecrf", None])
def test_labels_are_those_of_eager_pytorch(segmenter, eager, picture, background, crf):
    if crf == "pydensecrf":
        pytest.importorskip("pydensecrf")
    image, classes = picture(9, 101, 67), ["cat", "potted plant", "sky"]
    wanted = eager.segment(image, classes, background=background == "always", crf=crf is not None)
    found = segmenter.segment(image, classes, settings=Settings(background=background, crf=crf))
    assert len(np.unique(wanted)) > 1
    assert (found.labels != wanted).mean() <= thresholds.LABELS


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("drop_mode", CHOICES["drop_mode"])
def test_result_does_not_depend_on_the_batch(segmenter, picture, preset, drop_mode):
    settings = Settings.preset(preset, drop_mode=drop_mode)
    pairs = [(picture(seed, 40 + 3 * seed, 50), CLASSES[seed % len(CLASSES)]) for seed in range(8)]
    together = segmenter.segment_batch(pairs, settings=settings)
    for (image, classes), result in zip(pairs, together, strict=True):
        alone = segmenter.segment(image, classes, settings=settings)
        np.testing.assert_array_equal(result.labels, alone.labels)
        np.testing.assert_allclose(
            result.class_maps, alone.class_maps, rtol=0, atol=1e-5 * alone.class_maps.max()
        )


def test_result_has_the_shapes_of_the_contract(segmenter, picture):
    result = segmenter.segment(picture(0, 31, 17), ["cat", "potted plant"])
    assert (result.labels.shape, result.labels.dtype) == ((17, 31), np.uint16)
    assert (result.class_maps.shape, result.class_maps.dtype) == ((2, 6, 6), np.float32)
    assert (result.match.shape, result.match.dtype) == ((4,), np.float32)
    assert (result.scores.shape, result.scores.dtype) == ((2,), np.float32)
    assert result.classes == ("cat", "potted plant")
    assert result.labels.max() <= 2


def test_image_may_be_a_path_an_array_or_a_picture(segmenter, picture, tmp_path):
    image = picture()
    image.save(tmp_path / "picture.png")
    results = [
        segmenter.segment(given, ["cat", "sky"]).labels
        for given in (
            image,
            np.asarray(image),
            tmp_path / "picture.png",
            str(tmp_path / "picture.png"),
        )
    ]
    for labels in results[1:]:
        np.testing.assert_array_equal(labels, results[0])


def test_score_is_the_match_of_a_class_by_itself(segmenter, picture):
    classes = ["cat", "potted plant", "sky"]
    together = segmenter.segment(picture(), classes)
    for name, score in zip(classes, together.scores, strict=True):
        alone = segmenter.segment(picture(), [name])
        assert score == pytest.approx(alone.match[0], abs=thresholds.MATCH)


def test_match_keeps_only_classes_above_the_threshold(segmenter, picture):
    classes = ["cat", "potted plant", "sky", "dog", "zebra"]
    given = segmenter.segment(picture(2), classes)
    level = float(np.median(given.scores))
    settings = Settings(match_threshold=level)
    found = segmenter.segment(picture(2), classes, settings=settings, present="match")
    kept = [name for name, score in zip(classes, given.scores, strict=True) if score > level]
    assert 0 < len(kept) < len(classes)
    assert [name for name, there in zip(classes, found.present, strict=True) if there] == kept
    np.testing.assert_array_equal(found.scores, given.scores)

    alone = segmenter.segment(picture(2), kept, settings=settings)
    renamed = np.array([0, *(1 + classes.index(name) for name in kept)])[alone.labels]
    np.testing.assert_array_equal(found.labels, renamed)
    for name, class_map in zip(kept, alone.class_maps, strict=True):
        np.testing.assert_array_equal(found.class_maps[classes.index(name)], class_map)
    assert not found.class_maps[~np.array(found.present)].any()


def test_match_of_nothing_is_all_background(segmenter, picture):
    result = segmenter.segment(
        picture(), ["cat", "sky"], settings=Settings(match_threshold=1.0), present="match"
    )
    assert result.present == (False, False)
    assert not result.labels.any()
    assert result.match.shape == (0,)


def test_one_picture_of_a_batch_without_any_class_leaves_the_others_alone(segmenter, picture):
    pairs = [(picture(seed), ["cat", "sky", "zebra"]) for seed in range(4)]
    scores = np.array([segmenter.segment(*pair).scores.max() for pair in pairs])
    settings = Settings(match_threshold=float(np.sort(scores)[1]))
    together = segmenter.segment_batch(pairs, settings=settings, present="match")
    assert [any(result.present) for result in together] == list(scores > settings.match_threshold)
    for pair, result in zip(pairs, together, strict=True):
        alone = segmenter.segment(*pair, settings=settings, present="match")
        np.testing.assert_array_equal(result.labels, alone.labels)


@pytest.mark.parametrize("captions_a_call", [1, 32])
def test_classes_that_need_several_captions_share_the_drops(
    segmenter, exported: Exported, picture, monkeypatch, captions_a_call
):
    """Against autograd: patches go by their salience over the class tokens of both captions."""
    names = ["cat", "potted plant"]
    grid, patch = 6, 16
    monkeypatch.setattr(Captioner, "_fits", lambda self, ids, pieces: len(ids) <= 4)
    monkeypatch.setattr(graphs, "MAX_CAPTIONS", captions_a_call)
    captions = segmenter.method.graphs.captioner.write(names)
    assert len(captions) == 2
    pixels = model_input(picture(4), segmenter.method.preprocess)[None]
    dropped = np.zeros((1, grid * grid), bool)
    wanted = np.zeros((2, grid * grid), np.float32)
    for _ in range(3):
        blank = np.kron(~dropped.reshape(grid, grid), np.ones((patch, patch), np.float32))
        with torch.no_grad():
            embeds = exported.model.vision_model(
                torch.from_numpy((pixels * blank).astype(np.float32)), interpolate_pos_encoding=True
            ).last_hidden_state.numpy()
        scores = np.zeros(grid * grid)
        for index, caption in enumerate(captions):
            feeds = {
                "image_embeds": embeds,
                "input_ids": np.array([caption.ids]),
                "attention_mask": np.ones((1, len(caption.ids)), np.int64),
                "patch_keep": np.ones((1, grid * grid), np.float32),
            }
            out = autograd_salience(exported.model, feeds, Choice((2,), (3,)))
            ((_, tokens),) = caption.owners
            salience = out["salience"][0][tokens] * ~dropped
            wanted[index] += salience.mean(axis=0)
            scores += salience.sum(axis=0)
        order = np.argsort(np.where(dropped[0], np.inf, -scores), kind="stable")
        dropped[0, order[: np.count_nonzero(~dropped) // 2]] = True

    found = segmenter.segment(picture(4), names, settings=Settings(passes=3, crf=None)).class_maps
    difference = np.abs(found - wanted.reshape(found.shape)).max()
    assert difference <= thresholds.CLASS_MAPS * wanted.max()


def test_five_hundred_classes(segmenter, tokenizer, picture):
    words = [word for word in tokenizer.get_vocab() if word.isalpha() and word.isascii()]
    names = sorted(words)[:500]
    result = segmenter.segment(picture(0, 24, 20), names, settings=Settings(crf=None))
    assert result.class_maps.shape == (500, 6, 6)
    assert result.class_maps.max(axis=(1, 2)).all()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_stream_keeps_order(segmenter, picture, batch_size):
    pairs = [(picture(seed, 20 + seed, 20), ["cat", "sky"]) for seed in range(7)]
    results = segmenter.stream(iter(pairs), batch_size=batch_size)
    assert [r.labels.shape[1] for r in results] == [20 + seed for seed in range(7)]


def test_stream_raises_or_returns_the_error_of_a_picture(segmenter, picture, tmp_path):
    bad = tmp_path / "missing.jpg"
    pairs = [(picture(), ["cat"]), (bad, ["cat"]), (picture(), ["cat"])]
    results = list(segmenter.stream(pairs, errors="return"))
    assert [isinstance(result, InputError) for result in results] == [False, True, False]
    stream = segmenter.stream(pairs)
    next(stream)
    with pytest.raises(InputError, match=r"missing\.jpg"):
        next(stream)


def test_a_small_image_and_a_tall_one(segmenter):
    for size in ((1, 1), (1, 300), (300, 1), (2, 3)):
        result = segmenter.segment(Image.new("RGB", size, "red"), ["cat", "sky"])
        assert result.labels.shape == size[::-1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"present": "perhaps"}, "present"),
        ({"classes": []}, "no class was named"),
        ({"classes": "cat"}, "classes is 'cat'"),
        ({"classes": None}, "classes is None"),
        ({"classes": ["cat", " Cat "]}, "named twice"),
        ({"image": np.zeros((4, 4), np.uint8)}, r"uint8 \[4, 4\]"),
        ({"image": None}, "image is NoneType"),
        ({"image": b"jpeg"}, "no image of a known format"),
        ({"settings": {"passes": 2}}, "settings is"),
    ],
)
def test_bad_arguments_are_input_errors(segmenter, picture, changes, message):
    arguments = {"image": picture(), "classes": ["cat"], "present": "given", **changes}
    image, classes = arguments.pop("image"), arguments.pop("classes")
    with pytest.raises(InputError, match=message):
        segmenter.segment(image, classes, **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "CuPy is not installed"),
        ({"device": "cuda:1"}, "CuPy is not installed"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"backend": "abacus"}, "unknown backend 'abacus'"),
    ],
)
def test_backend_or_device_that_cannot_be_had_is_an_error(exported, monkeypatch, options, message):
    monkeypatch.setitem(sys.modules, "cupy", None)  # an import of it fails
    with pytest.raises(BackendError, match=message):
        Segmenter.load(exported.folder, **options)


def test_manifest_settings_are_the_default(exported, model_copy, picture):
    import msgspec

    from pnp_ovss.engine.model.manifest import MANIFEST

    manifest = msgspec.json.decode((model_copy / MANIFEST).read_bytes())
    manifest["settings"] |= {"passes": 2, "crf": None}
    (model_copy / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    with Segmenter.load(model_copy) as segmenter:
        assert segmenter.settings == Settings(passes=2, crf=None)
        assert segmenter.segment(picture(), ["cat"]).match.shape == (2,)


def test_classes_may_come_from_a_generator(segmenter, picture):
    result = segmenter.segment(picture(), (name for name in ("cat", "sky")))
    assert result.classes == ("cat", "sky")


@pytest.mark.parametrize("batch_size", [0, -1, "3", 2.5])
def test_batch_size_must_be_a_whole_number(segmenter, picture, batch_size):
    with pytest.raises(InputError, match="batch_size is"):
        next(segmenter.stream([(picture(), ["cat"])], batch_size=batch_size))


def test_closing_twice_is_harmless_and_use_after_it_is_an_error(exported, picture):
    with Segmenter.load(exported.folder, device="cpu") as segmenter:
        segmenter.close()
    with pytest.raises(ExecutionError, match="the model was closed"):
        segmenter.segment(picture(), ["cat"])


def test_weights_that_are_not_numbers_are_an_error_not_a_mask(
    exported, tmp_path, picture, monkeypatch
):
    import safetensors.torch

    checkpoint = shutil.copytree(exported.checkpoint, tmp_path / "checkpoint")
    weights = safetensors.torch.load_file(checkpoint / "model.safetensors")
    cat = 4937
    weights["text_encoder.embeddings.word_embeddings.weight"][cat] = np.nan
    safetensors.torch.save_file(weights, checkpoint / "model.safetensors", {"format": "pt"})
    export(str(checkpoint), tmp_path / "model", image_size=64)  # its random captions miss the word
    with Segmenter.load(tmp_path / "model") as segmenter:
        assert segmenter.segment(picture(), ["dog"]).labels.any()
        with pytest.raises(ExecutionError, match="is not finite"):
            segmenter.segment(picture(), ["cat"])


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float16"},
        {"preprocess": {"sides": [0, 96]}},
        {"preprocess": {"patch": 0}},
        {"preprocess": {"patch": 7}},
        {"preprocess": {"sides": [96, 100]}},
    ],
    ids=str,
)
def test_manifest_of_another_kind_of_model_is_refused(model_copy, changes):
    import msgspec

    from pnp_ovss.engine.model.manifest import MANIFEST

    manifest = msgspec.json.decode((model_copy / MANIFEST).read_bytes())
    for key, value in changes.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    (model_copy / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(ModelError, match="cannot be used"):
        Segmenter.load(model_copy)
