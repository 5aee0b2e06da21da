from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pnp_ovss.engine import InputError, Segmenter, Settings
from pnp_ovss.engine.evaluation import DATASETS, Dataset, Evaluation, Sample, evaluate, sweep
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import scene
from pnp_ovss.engine.methods.pnp_ovss.every_map import every_map, open_every_map
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.pipeline.stages import prepare
from pnp_ovss.engine.runners.placement import Placement
from pnp_ovss.export import export
from tests.conftest import IMAGE_SIZE, Exported

SETTINGS = Settings(passes=1, crf=None)
IMAGES = 5
STICKERS = DATASETS["stickers"]


class Oracle(Segmenter):
    """A segmenter that knows the truth, and has the names in another order than the data set."""

    def __init__(self, dataset: Dataset, wrong: str = "") -> None:
        self.dataset, self.wrong = dataset, wrong
        self._folder = open_model("demo", verify=False)

    @property
    def model(self) -> ModelFolder:
        return self._folder

    @property
    def placement(self) -> Placement:
        return Placement("cpu")

    def check_classes(self, classes: Any, settings: Any = None) -> None:
        """It can be asked for any."""

    def stream(self, pairs: Any, **_: Any) -> Iterator[Any]:
        for index, (_, names) in enumerate(pairs):
            names = names[::-1]
            lookup = np.zeros(len(self.dataset.names), np.uint16)
            for number, name in enumerate(names, 1):
                if name != self.wrong:
                    lookup[self.dataset.names.index(name)] = number
            labels = lookup[self.dataset.sample(index).truth]
            yield SimpleNamespace(labels=labels, classes=tuple(names))


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("present", ["given", "match"])
def test_the_truth_scores_one(name: str, present: Any):
    dataset = DATASETS[name]
    found = evaluate(Oracle(dataset), dataset, SETTINGS, present=present, images=IMAGES)
    assert found.miou == found.boundary_f == found.pixel_accuracy == 1
    assert found.scores == dict.fromkeys(range(IMAGES), 1)
    seen = {name for i in range(IMAGES) for name in dataset.sample(i).classes}
    seen |= {"background"} if name == "stickers" else set()
    assert {name for name, iou in found.per_class.items() if iou is not None} == seen


@pytest.mark.parametrize("name", DATASETS)
def test_a_class_left_to_the_background_scores_nothing(name: str):
    """Without a background in the data set, that is no class, and nothing else is lost."""
    dataset = DATASETS[name]
    missed = dataset.sample(0).classes[0]
    found = evaluate(Oracle(dataset, wrong=missed), dataset, SETTINGS, images=IMAGES)
    assert found.per_class[missed] == found.boundary_per_class[missed] == 0
    others = {k: v for k, v in found.per_class.items() if k not in (missed, "background")}
    assert {iou for iou in others.values() if iou is not None} == {1}
    assert ("background" in found.per_class) == (name == "stickers")


@pytest.fixture(scope="module")
def demo() -> Iterator[Segmenter]:
    with Segmenter.load("demo", device="cpu") as segmenter:
        yield segmenter


def assert_same(one: Evaluation, other: Evaluation) -> None:
    np.testing.assert_array_equal(one.confusion.counts, other.confusion.counts)
    np.testing.assert_array_equal(one.boundaries.per_class(), other.boundaries.per_class())
    assert one.scores == other.scores
    assert (one.miou, one.boundary_f) == (other.miou, other.boundary_f)
    assert one.with_labels == other.with_labels
    for index in one.with_labels:
        np.testing.assert_array_equal(one.labels(index), other.labels(index))


def test_parts_that_were_pickled_and_merged_equal_the_whole(demo: Segmenter):
    """In batches of one, as what shares a batch may move a label."""
    parts = [
        evaluate(demo, STICKERS, SETTINGS, images=part, batch_size=1, keep_labels=True)
        for part in (range(3), range(3, IMAGES))
    ]
    first, second = pickle.loads(pickle.dumps(parts))
    whole = evaluate(demo, STICKERS, SETTINGS, images=IMAGES, batch_size=1, keep_labels=True)
    assert_same(first.merge(second), whole)
    assert_same(second.merge(first), whole)
    assert 0.2 < whole.miou < 1
    assert first.scores.keys() == {0, 1, 2}  # a merge changes neither part


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"dataset": replace(STICKERS, name="others")}, "data set: name: stickers and others"),
        (
            {"dataset": replace(STICKERS, vocabulary=STICKERS.vocabulary[::-1])},
            "data set: vocabulary: ",
        ),
        ({"dataset": replace(STICKERS, background="auto")}, "data set: background: always and"),
        ({"dataset": replace(STICKERS, images=9)}, "data set: images: 500 and 9"),
        ({"dataset": replace(STICKERS, ignore=255)}, "data set: ignore: None and 255"),
        ({"settings": replace(SETTINGS, blur=0.01)}, "settings: blur: 0.05 and 0.01"),
        ({"present": "match"}, "present: given and match"),
        ({"model": {"checkpoint": "another"}}, "model: checkpoint: one and another"),
    ],
)
def test_parts_of_different_evaluations_are_not_merged(change: dict[str, Any], cause: str):
    facts: dict[str, Any] = {
        "dataset": STICKERS,
        "settings": SETTINGS,
        "present": "given",
        "model": {"checkpoint": "one"},
    }
    with pytest.raises(InputError, match=f"evaluations of different {cause}"):
        Evaluation(**facts).merge(Evaluation(**{**facts, **change}))


def test_parts_may_run_on_different_devices():
    """What differs of where they ran is not told, whichever is merged into which."""
    parts = [
        Evaluation(STICKERS, SETTINGS, model={"backend": "tensorrt", "device": f"cuda:{n % 2}"})
        for n in range(3)
    ]
    same, mixed = parts[0].merge(parts[2]), {"backend": "tensorrt", "device": None}
    assert same.model == parts[0].model
    assert same.merge(parts[1]).model == parts[1].merge(same).model == mixed
    assert parts[0].merge(parts[1]).merge(parts[2]).model == mixed


def test_an_image_is_counted_once():
    truth = STICKERS.sample(3).truth
    one, other = Evaluation(STICKERS, SETTINGS), Evaluation(STICKERS, SETTINGS)
    for part in (one, other):
        part.add(3, truth, truth)
    with pytest.raises(InputError, match="image 3 of stickers was counted before"):
        one.add(3, truth, truth)
    with pytest.raises(InputError, match="image 3 of stickers was counted before"):
        one.merge(other)
    assert one.miou == 1


def test_an_error_names_the_image():
    truth = STICKERS.sample(0).truth.copy()
    truth[5, 5] = 255
    evaluation = Evaluation(STICKERS, SETTINGS)
    with pytest.raises(InputError, match="image 7 of stickers: 255 in the truth is not a class"):
        evaluation.add(7, truth, truth)
    assert not evaluation.scores
    assert not evaluation.boundaries.images.any()


def framed(index: int) -> Sample:
    """Images of different sizes, with a frame, and the background of every other, ignored."""
    made = scene("stickers", 5, index, (96 + 40 * index, 128))
    truth = STICKERS.numbers(made.classes)[made.labels].astype(np.uint8)
    truth[:4], truth[-4:], truth[:, :4], truth[:, -4:] = 255, 255, 255, 255
    if index % 2:
        truth[truth == 0] = 255
    return Sample(made.image, truth, made.classes)


FRAMED = Dataset("framed", STICKERS.vocabulary, "always", 4, framed, ignore=255)


def test_a_data_set_with_an_ignored_value_and_images_of_different_sizes(demo: Segmenter):
    result = evaluate(demo, FRAMED, SETTINGS, keep_labels=True)
    samples = [framed(index) for index in range(4)]
    assert [result.labels(i).shape for i in range(4)] == [one.truth.shape for one in samples]
    kept = sum(int((one.truth != 255).sum()) for one in samples)
    assert result.confusion.counts.sum() == kept
    perfect = Evaluation(FRAMED, SETTINGS)
    for index, one in enumerate(samples):
        perfect.add(index, one.truth, np.where(one.truth == 255, 9, one.truth))
    assert perfect.miou == perfect.pixel_accuracy == perfect.boundary_f == 1


def test_an_image_that_is_all_ignored_has_no_score():
    everything = np.full((20, 30), 255, np.uint8)
    evaluation = Evaluation(FRAMED, SETTINGS)
    evaluation.add(0, everything, np.zeros((20, 30), np.uint16))
    assert np.isnan([evaluation.scores[0], evaluation.miou, evaluation.boundary_f]).all()


@pytest.mark.parametrize(
    ("images", "cause"),
    [(501, "501 images"), (0, "0 images"), ([2, 500], "image 500"), ([1, 1], "asked for twice")],
)
def test_images_that_are_not_there(images: Any, cause: str, demo: Segmenter):
    with pytest.raises(InputError, match=cause):
        evaluate(demo, STICKERS, images=images)


@pytest.mark.parametrize("name", DATASETS)
def test_by_default_the_data_set_says_whether_there_is_a_background(name: str, demo: Segmenter):
    dataset = DATASETS[name]
    result = evaluate(demo, dataset, images=1)
    assert result.settings == replace(demo.settings, background=dataset.background)


def named(*classes: str) -> Dataset:
    """Some sticker scenes; the second has these classes, the truth is as it was."""

    def read(index: int) -> Sample:
        sample = STICKERS.sample(index)
        return replace(sample, classes=classes) if index == 1 else sample

    return replace(STICKERS, sample=read, images=IMAGES)


def test_a_sweep_gives_what_each_layer_and_head_gives_alone(exported: Exported, tmp_path: Path):
    dataset = named()  # an image without classes is background
    options: dict[str, Any] = {"image_size": IMAGE_SIZE, "trained": False}
    export(str(exported.checkpoint), tmp_path / "all", all_heads=True, **options)
    export(str(exported.checkpoint), tmp_path / "one", layer=(1,), head=(2,), **options)
    method = open_every_map(tmp_path / "all")
    found = sweep(method, dataset, SETTINGS)
    assert (found.images, found.settings.crf) == (IMAGES, None)
    with Segmenter.load(tmp_path / "one", device="cpu") as segmenter:
        alone = evaluate(segmenter, dataset, SETTINGS)
    assert found.miou.shape == (3, 4)  # the last of four layers has no salience
    assert found.miou[1, 2] == pytest.approx(alone.miou, abs=1e-3)
    assert found.maps.shape[:3] == (3, 4, len(found.sample.classes))
    request = prepare(method, dataset.read(0).image, [["turtle", "cat"], "dog"], SETTINGS)
    plain = prepare(method, dataset.read(0).image, ["turtle", "cat", "dog"], SETTINGS)
    both, apart = (every_map(method, one) for one in (request, plain))
    np.testing.assert_array_equal(both[:, :, 0], apart[:, :, :2].max(axis=2))
    np.testing.assert_array_equal(both[:, :, 1], apart[:, :, 2])
    with pytest.raises(InputError, match="no image of stickers has a class"):
        sweep(method, dataset, SETTINGS, images=[1])


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("Turtle", "'Turtle' is not in the vocabulary"),
        ("abacus", "'abacus' is not in the vocabulary"),
        ("turtle", "'turtle' is named twice"),
    ],
)
def test_a_wrong_class_is_an_error_with_its_image(demo: Segmenter, name: str, cause: str):
    with pytest.raises(InputError, match=f"image 1 of stickers: class {cause}"):
        evaluate(demo, named("turtle", name), SETTINGS)


@pytest.mark.parametrize(
    ("vocabulary", "cause"),
    [
        (("car\n", "tree"), r"class 'car\\n' of streets has stray white space"),
        (("car", "Car"), "class 'Car' is named twice"),
        (("car", ""), "class 2 of 2 has an empty name"),
        (("car", ("tree", "bush")), r"a class of streets is \('tree', 'bush'\)"),
    ],
)
def test_a_vocabulary_that_a_model_would_change_is_refused(vocabulary: tuple[str, ...], cause: str):
    with pytest.raises(InputError, match=cause):
        Dataset("streets", vocabulary, "always", 1, STICKERS.sample)


def test_numbers_are_found_in_any_spelling_and_others_are_refused():
    vocabulary = STICKERS.vocabulary
    names = [f" {vocabulary[3].upper()}\n", vocabulary[0]]
    assert STICKERS.numbers(names).tolist() == [0, 4, 1]
    with pytest.raises(InputError, match="no class 'unicorn' in the vocabulary"):
        STICKERS.numbers(["unicorn"])


@pytest.mark.parametrize("images", [3, [1]])
def test_progress_is_told_of_every_image(demo: Segmenter, images: int | list[int]):
    """Also of one without classes."""
    told: list[Any] = []

    def progress(items: Iterable[Any], length: int, label: str) -> Iterator[Any]:
        told.append((length, label))
        for item in items:
            told.append(item)
            yield item

    evaluate(demo, named(), SETTINGS, images=images, progress=progress)
    count = 3 if images == 3 else 1
    assert told[0] == (count, "stickers")
    assert len(told) == 1 + count


def test_an_image_without_classes_is_all_background(demo: Segmenter):
    result = evaluate(demo, named(), SETTINGS, keep_labels=True)
    assert sorted(result.scores) == result.with_labels == [*range(IMAGES)]
    assert not result.labels(1).any()
    others = evaluate(demo, STICKERS, SETTINGS, images=[0, 2, 3, 4])
    alone = Evaluation(STICKERS, SETTINGS, model=others.model)
    alone.add(1, STICKERS.sample(1).truth, np.zeros_like(STICKERS.sample(1).truth))
    with pytest.raises(InputError, match="the label map of image 1 of stickers was not kept"):
        others.labels(1)
    np.testing.assert_array_equal(result.confusion.counts, others.merge(alone).confusion.counts)
