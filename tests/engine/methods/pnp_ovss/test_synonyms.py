"""Classes of several names, held to what their names give one by one."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pnp_ovss.engine import InputError, Segmenter, Settings
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.inputs.text import Captioner, CaptionTokens
from pnp_ovss.engine.methods.pnp_ovss.captions import largest_of_names
from pnp_ovss.engine.settings import CHOICES, PRESETS

CLASSES: list[str | list[str]] = [
    ["cat", "kitten"],
    "sky",
    ["sofa", "potted plant", "x-ray machine"],
    ["dog"],
]
NAMES = ["cat", "kitten", "sky", "sofa", "potted plant", "x-ray machine", "dog"]
OWNERS = [0, 0, 1, 2, 2, 2, 3]


def largest(values: np.ndarray, owners: list[int]) -> np.ndarray:
    rows = [
        [value for value, one in zip(values, owners, strict=True) if one == owner]
        for owner in sorted(set(owners))
    ]
    return np.array([np.max(row, axis=0) for row in rows])


@pytest.fixture(params=["one caption", "several captions"])
def captions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Synonyms in one caption, or one class's in two."""
    if request.param == "several captions":
        monkeypatch.setattr(Captioner, "_fits", lambda self, ids, pieces: len(ids) <= 6)
    return request.param


@pytest.mark.parametrize("drop_mode", CHOICES["drop_mode"])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_class_is_the_largest_of_its_names(
    segmenter: Segmenter, picture: Any, captions: str, preset: Any, drop_mode: Any
):
    """The captions are those of the names as so many classes, so their maps are the same."""
    image, settings = picture(3), Settings.preset(preset, drop_mode=drop_mode, crf=None)
    graphs = segmenter.method.graphs  # type: ignore[attr-defined]
    written = graphs.captioner.write(segmenter.prepare(image, CLASSES).names)
    assert (len(written) > 1) == (captions == "several captions")

    found = segmenter.segment(image, CLASSES, settings=settings)
    apart = segmenter.segment(image, NAMES, settings=settings)
    assert found.classes == ("cat", "sky", "sofa", "dog")
    assert found.synonyms == {"cat": ("kitten",), "sofa": ("potted plant", "x-ray machine")}
    np.testing.assert_array_equal(found.class_maps, largest(apart.class_maps, OWNERS))
    np.testing.assert_array_equal(found.match, apart.match)
    np.testing.assert_array_equal(found.scores, largest(apart.scores, OWNERS))
    assert (found.class_maps[2] != apart.class_maps[3]).any()
    # The maximum is taken before the threshold: the labels are those of four maps.
    labels = segmenter.refine(image, largest(apart.class_maps, OWNERS), settings)
    np.testing.assert_array_equal(found.labels, labels)


def test_a_score_is_the_largest_of_single_runs(segmenter: Segmenter, picture: Any):
    image, settings = picture(4), Settings(passes=1, crf=None)
    scores = [segmenter.segment(image, [name], settings=settings).scores[0] for name in NAMES]
    found = segmenter.segment(image, CLASSES, settings=settings).scores
    np.testing.assert_allclose(found, largest(np.array(scores), OWNERS), rtol=0, atol=1e-6)
    turned = [one[::-1] if isinstance(one, list) else one for one in CLASSES]
    again = segmenter.segment(image, turned, settings=settings)
    assert again.classes == ("kitten", "sky", "x-ray machine", "dog")
    np.testing.assert_allclose(again.scores, found, rtol=0, atol=1e-6)


def test_a_class_that_does_not_match_has_none_of_its_names_written(
    segmenter: Segmenter, picture: Any
):
    """A class that does has all of them, whatever their own scores."""
    image, settings = picture(5), Settings(passes=2, crf=None)
    scores = segmenter.segment(image, CLASSES, settings=settings).scores
    settings = replace(settings, match_threshold=float(np.sort(scores)[1:3].mean()))
    found = segmenter.segment(image, CLASSES, settings=settings, present="match")
    assert found.present == tuple((scores > settings.match_threshold).tolist())
    assert sum(found.present) == 2
    kept = [one for one, there in zip(CLASSES, found.present, strict=True) if there]
    alone = segmenter.segment(image, kept, settings=settings)
    np.testing.assert_array_equal(found.class_maps[list(found.present)], alone.class_maps)
    assert not found.class_maps[~np.array(found.present)].any()
    np.testing.assert_array_equal(found.match, alone.match)


def test_images_of_a_batch_have_synonyms_of_their_own(segmenter: Segmenter, picture: Any):
    settings = Settings(passes=2, crf=None)
    pairs = [(picture(0), CLASSES), (picture(1), ["sky"]), (picture(2), [["dog", "cow"]])]
    for pair, found in zip(pairs, segmenter.segment_batch(pairs, settings=settings), strict=True):
        alone = segmenter.segment(*pair, settings=settings)
        assert (found.classes, found.synonyms) == (alone.classes, alone.synonyms)
        np.testing.assert_allclose(found.class_maps, alone.class_maps, rtol=0, atol=1e-6)


def test_one_name_in_a_list_is_a_name(segmenter: Segmenter, picture: Any):
    image, settings = picture(6), Settings(passes=2, crf=None)
    plain = segmenter.segment(image, ["cat", "sky"], settings=settings)
    listed = segmenter.segment(image, iter([["cat"], ("sky",)]), settings=settings)
    assert (listed.classes, listed.synonyms) == (("cat", "sky"), {})
    np.testing.assert_array_equal(listed.labels, plain.labels)
    np.testing.assert_array_equal(listed.class_maps, plain.class_maps)


def test_requests_and_results_of_synonyms_can_be_pickled(segmenter: Segmenter, picture: Any):
    request = segmenter.prepare(picture(7), CLASSES, settings=Settings(passes=1, crf=None))
    assert pickle.loads(pickle.dumps(request)).names == request.names
    result = segmenter.segment(picture(7), CLASSES, settings=request.settings)
    mask = result.mask("kitten ")
    copy = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(copy.mask("CAT"), mask)
    np.testing.assert_array_equal(mask, result.labels == 1)


def test_the_callers_list_may_change_afterwards(segmenter: Segmenter, picture: Any):
    own = ["sofa", "couch"]
    request = segmenter.prepare(picture(8), [own])
    own[:] = ["cat"]
    assert request.names == [("sofa", "couch")]


@pytest.mark.parametrize(
    ("classes", "preset"),
    [
        (["café", "cafe"], "paper"),
        (["cat", ["dog", "cát"]], "paper"),
        ([["cat", "c\u200bat"]], "paper"),
        (["hot-dog", "hot - dog"], "paper"),
        (["cat", "\u200ecat"], "paper"),
        (["hot dog", "hotdog"], "released"),
    ],
)
def test_names_that_are_read_alike_are_refused(
    segmenter: Segmenter, picture: Any, classes: Any, preset: Any
):
    settings = Settings.preset(preset, crf=None)
    for ask in (
        lambda: segmenter.check_classes(classes, settings),
        lambda: segmenter.segment(picture(0), classes, settings=settings),
    ):
        with pytest.raises(InputError, match=r"names '.*' and '.*' are read alike") as caught:
            ask()
        assert ("use the preset 'paper'" in caught.value.cure) == (preset == "released")


def test_names_apart_in_one_word_or_two_are_two_classes(segmenter: Segmenter):
    segmenter.check_classes(["hot dog", "hotdog"], Settings.preset("paper"))


@pytest.mark.timing
def test_ten_thousand_names_are_written_in_seconds(segmenter: Segmenter):
    names = [f"{color} {number}" for color in ("red", "blue") for number in range(5000)]
    for classes in (names, [names]):
        start = time.perf_counter()
        segmenter.check_classes(classes)
        assert time.perf_counter() - start < 5


def test_what_is_not_finite_stays_so():
    captions = [CaptionTokens([], [(0, []), (2, [])]), CaptionTokens([], [(2, []), (5, [])])]
    values = np.array([1, np.nan, 3, 2], np.float32)
    found = largest_of_names(values, captions, CPU)
    np.testing.assert_array_equal(found, np.array([1, np.nan, 2], np.float32))
