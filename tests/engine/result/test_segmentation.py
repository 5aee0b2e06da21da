from __future__ import annotations

import contextlib
import io
import json
import pickle
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from pnp_ovss.engine import BackendError, InputError, Segmentation
from pnp_ovss.engine.result.palette import class_colors


def result(labels: np.ndarray, classes: int) -> Segmentation:
    return Segmentation(
        labels=labels.astype(np.uint16),
        class_maps=np.zeros((classes, 4, 4), np.float32),
        match=np.zeros(4, np.float32),
        scores=np.linspace(0.1, 0.9, classes, dtype=np.float32),
        classes=tuple(f"class {index}" for index in range(classes)),
        present=(True,) * classes,
    )


def random_result(seed: int, height: int, width: int, classes: int) -> Segmentation:
    """Some of the classes, in blocks and in single pixels."""
    rng = np.random.default_rng(seed)
    found = np.append(0, rng.permutation(classes)[: rng.integers(1, classes + 1)] + 1)
    labels = rng.choice(found, (height, width))
    labels[: height // 2] = rng.choice(found)
    return result(labels, classes)


results = st.builds(
    random_result,
    st.integers(0, 2**32 - 1),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 8),
)
NOTHING = result(np.zeros((6, 9)), 3)
EVERYTHING = result(np.full((6, 9), 2), 3)


@given(results)
def test_masks_and_areas_are_those_of_the_labels(found):
    masks = np.stack([found.mask(name) for name in found.classes])
    assert masks.dtype == bool
    np.testing.assert_array_equal(
        masks, found.labels == np.arange(1, len(found.classes) + 1)[:, None, None]
    )
    areas = found.areas()
    assert areas.shape == (1 + len(found.classes),)
    assert areas.dtype == np.int64
    assert areas.sum() == found.labels.size
    assert areas[1:].tolist() == masks.sum(axis=(1, 2)).tolist()


def test_mask_of_a_class_that_was_not_named_says_which_were():
    with pytest.raises(InputError, match=r"no class 'cat'.*\n.*class 0, class 1, class 2"):
        NOTHING.mask("cat")


@pytest.mark.parametrize("name", ["class 2", "Class  2\n", "third", " THIRD", "no. 3"])
def test_mask_is_found_by_any_name_in_any_spelling(name):
    found = replace(result(np.full((6, 9), 3), 3), synonyms={"class 2": ("third", "No. 3")})
    assert found.mask(name).all()
    assert not found.mask("class 1").any()
    assert pickle.loads(pickle.dumps(found)).mask(name).all()


@pytest.mark.parametrize("name", [1, None, b"class 1", ["class 1"]])
def test_mask_of_what_is_no_name_is_refused(name):
    with pytest.raises(InputError, match=r"no class .* in this result\nask .* by its name"):
        NOTHING.mask(name)


@pytest.mark.parametrize(
    ("classes", "mode"), [(1, "P"), (21, "P"), (255, "P"), (256, "I;16"), (60_000, "I;16")]
)
def test_label_image_survives_a_png(classes, mode):
    labels = np.linspace(0, classes, 35 * 40).round().reshape(35, 40)
    file = io.BytesIO()
    result(labels, classes).label_image().save(file, "png")
    image = Image.open(file)
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image), labels)
    if mode == "P":
        np.testing.assert_array_equal(
            np.asarray(image.convert("RGB")), class_colors(classes)[labels.astype(int)]
        )


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((80, 60), (640, 480)), ((640, 480), (640, 480)), ((1000, 700), (1000, 700))],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_overlay_has_the_size_of_the_picture_or_a_multiple_of_it(picture, size, drawn, as_array):
    image = picture(0, *size)
    found = random_result(0, size[1], size[0], 3)
    overlay = found.overlay(np.asarray(image) if as_array else image, legend=False)
    assert (overlay.mode, overlay.size) == ("RGB", drawn)
    with_legend = found.overlay(image)
    assert with_legend.width == drawn[0]
    assert with_legend.height > drawn[1]
    np.testing.assert_array_equal(np.asarray(with_legend.crop((0, 0, *drawn))), np.asarray(overlay))


@pytest.mark.parametrize("size", [(6, 9), (9, 7), (18, 12), (1, 1)])
def test_overlay_refuses_a_picture_of_another_size(picture, size):
    with pytest.raises(InputError, match=f"{size[0]}x{size[1]}, its labels are 9x6"):
        NOTHING.overlay(picture(0, *size))


@given(results)
def test_coco_annotations_decode_to_the_masks(found):
    from pycocotools import mask as coco

    annotations = json.loads(json.dumps(found.to_coco()))
    areas = found.areas()
    assert [a["category_id"] for a in annotations] == (np.flatnonzero(areas[1:]) + 1).tolist()
    for annotation in annotations:
        index = annotation["category_id"] - 1
        mask = found.mask(annotation["category_name"])
        np.testing.assert_array_equal(coco.decode(annotation["segmentation"]), mask)
        assert annotation["category_name"] == found.classes[index]
        assert annotation["area"] == areas[index + 1]
        x, y, width, height = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
        assert annotation["score"] == pytest.approx(float(found.scores[index]))
        assert annotation["iscrowd"] == 0


@given(results, st.integers(0, 9) | st.text(max_size=3), st.integers(1, 9))
def test_coco_annotations_of_images_make_a_data_set(found, image_id, first_id):
    from pycocotools.coco import COCO

    annotations = found.to_coco(image_id=image_id, first_id=np.int64(first_id))
    assume(annotations)
    more = found.to_coco(image_id="other", first_id=first_id + len(annotations))
    coco: Any = COCO()
    height, width = found.labels.shape
    names = enumerate(found.classes, 1)
    coco.dataset = {
        "images": [{"id": one, "height": height, "width": width} for one in (image_id, "other")],
        "categories": [{"id": number, "name": name} for number, name in names],
        "annotations": json.loads(json.dumps([*annotations, *more])),
    }
    with contextlib.redirect_stdout(None):
        coco.createIndex()
        scored = coco.loadRes(json.loads(json.dumps(annotations)))
    assert list(coco.anns) == list(range(first_id, first_id + 2 * len(annotations)))
    assert len(coco.getAnnIds(imgIds=[image_id])) == len(scored.anns) == len(annotations)
    for one in coco.loadAnns(coco.getAnnIds(imgIds=[image_id])):
        np.testing.assert_array_equal(coco.annToMask(one), found.mask(one["category_name"]))


def test_coco_annotations_without_an_image_count_from_one():
    (annotation,) = EVERYTHING.to_coco()
    assert annotation["id"] == 1
    assert "image_id" not in annotation


@pytest.mark.parametrize("value", [True, -1, 1.0, b"1", np.float32(1), np.bool_(True), [1], None])
@pytest.mark.parametrize("name", ["image_id", "first_id"])
def test_coco_ids_that_are_none_are_refused(name, value):
    if (name, value) == ("image_id", None):
        return
    for found in (NOTHING, EVERYTHING):
        with pytest.raises(InputError, match=f"{name} is ") as caught:
            found.to_coco(**{name: value})
        assert caught.value.cure


def test_coco_of_nothing_found_is_empty():
    assert NOTHING.to_coco() == []


@given(results)
def test_supervision_detections_hold_the_masks(found):
    detections = found.to_supervision()
    seen = np.flatnonzero(found.areas()[1:])
    assert detections.class_id.tolist() == seen.tolist()
    assert len(detections) == len(seen)
    np.testing.assert_array_equal(detections.confidence, found.scores[seen])
    assert detections.data["class_name"].tolist() == [found.classes[index] for index in seen]
    for box, mask, index in zip(detections.xyxy, detections.mask, seen, strict=True):
        np.testing.assert_array_equal(mask, found.labels == index + 1)
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_supervision_detections_can_be_filtered_and_merged():
    from supervision import Detections

    both = Detections.merge([EVERYTHING.to_supervision(), EVERYTHING.to_supervision()])
    assert list(both.data["class_name"]) == ["class 1"] * 2
    assert both.class_id is not None
    for index, count in ((1, 2), (0, 0)):
        chosen = both[both.class_id == index]
        assert isinstance(chosen, Detections)
        assert len(chosen) == count


def test_supervision_of_nothing_found_is_empty():
    from supervision import Detections

    detections = NOTHING.to_supervision()
    assert len(detections) == 0
    assert detections.xyxy.shape == (0, 4)
    assert detections.mask is None or detections.mask.shape == (0, 6, 9)
    assert len(Detections.merge([detections, EVERYTHING.to_supervision()])) == 1


@pytest.mark.parametrize(
    ("method", "package"), [("to_coco", "pycocotools.mask"), ("to_supervision", "supervision")]
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match=rf"{package.split('.')[0]}.*\n.*pnp-ovss\[interop\]"):
        getattr(EVERYTHING, method)()


def test_it_is_shown_in_a_line():
    assert (
        repr(EVERYTHING) == "Segmentation(9x6, pixels {'class 0': 0, 'class 1': 54, 'class 2': 0})"
    )
