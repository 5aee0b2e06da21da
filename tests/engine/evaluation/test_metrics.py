from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from pnp_ovss.engine.errors import InputError
from pnp_ovss.engine.evaluation import BoundaryScores, Confusion, metrics

CLASSES = 5
IGNORE = 255
LABELS = hnp.arrays(np.int64, (9, 13), elements=st.integers(0, CLASSES - 1))
TRUTHS = hnp.arrays(np.int64, (9, 13), elements=st.sampled_from([*range(CLASSES), IGNORE]))
MASKS = hnp.arrays(bool, (11, 15))
IMAGES = st.lists(st.tuples(TRUTHS, LABELS), min_size=3, max_size=6)
METRICS = (Confusion, BoundaryScores)


def confusion(truth: np.ndarray, labels: np.ndarray, ignore: int | None = None) -> Confusion:
    counted = Confusion.of(CLASSES, ignore)
    counted.add(truth, labels)
    return counted


def values(metric: Confusion | BoundaryScores) -> list[np.ndarray]:
    return [value for value in vars(metric).values() if isinstance(value, np.ndarray)]


def assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    assert one.ignore == other.ignore
    for mine, theirs in zip(values(one), values(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@given(truth=LABELS, labels=LABELS)
def test_counts_iou_and_accuracy_are_scikit_learns(truth: np.ndarray, labels: np.ndarray):
    counted = confusion(truth, labels)
    flat = truth.ravel(), labels.ravel()
    np.testing.assert_array_equal(counted.counts, confusion_matrix(*flat, labels=range(CLASSES)))
    assert counted.pixel_accuracy() == pytest.approx(accuracy_score(*flat))
    seen = sorted(set(flat[0]) | set(flat[1]))
    wanted = jaccard_score(*flat, labels=seen, average=None)  # pyright: ignore
    np.testing.assert_allclose(counted.iou()[seen], wanted)
    assert np.isnan(np.delete(counted.iou(), seen)).all()
    macro = jaccard_score(*flat, labels=seen, average="macro")
    assert counted.mean_iou() == pytest.approx(macro)


@given(truth=TRUTHS, labels=LABELS)
def test_ignored_pixels_are_in_no_count(truth: np.ndarray, labels: np.ndarray):
    """As scikit-learn counts the others, even where a class has the number that is ignored."""
    for ignore in (IGNORE, 0):
        values = np.where(truth == IGNORE, ignore, truth)
        kept = values != ignore
        wanted = np.zeros((CLASSES, CLASSES))
        if kept.any():
            wanted = confusion_matrix(values[kept], labels[kept], labels=range(CLASSES))
        np.testing.assert_array_equal(confusion(values, labels, ignore).counts, wanted)


@given(truth=TRUTHS, labels=LABELS, other=LABELS)
def test_labels_of_ignored_pixels_change_no_score(
    truth: np.ndarray, labels: np.ndarray, other: np.ndarray
):
    changed = np.where(truth == IGNORE, other, labels)
    for kind in METRICS:
        one, two = kind.of(CLASSES, IGNORE), kind.of(CLASSES, IGNORE)
        one.add(truth, labels)
        two.add(truth, changed)
        assert_equal(one, two)


@pytest.mark.parametrize("kind", METRICS)
@given(images=IMAGES, data=st.data())
def test_merged_parts_equal_one_run(kind: Any, images: Any, data: st.DataObject):
    """However the images are shared out and the parts merged, and after pickling."""
    whole, parts = kind.of(CLASSES, IGNORE), [kind.of(CLASSES, IGNORE) for _ in range(3)]
    for image in images:
        whole.add(*image)
        data.draw(st.sampled_from(parts)).add(*image)
    a, b, c = pickle.loads(pickle.dumps(data.draw(st.permutations(parts))))
    before = [value.copy() for value in values(a)]
    assert_equal(a.merge(b).merge(c), whole)
    assert_equal(a.merge(b.merge(c)), whole)
    for value, earlier in zip(values(a), before, strict=True):
        np.testing.assert_array_equal(value, earlier)


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("other", [{"classes": 6, "ignore": 255}, {"classes": 5, "ignore": None}])
def test_metrics_of_different_data_sets_are_not_merged(kind: Any, other: dict[str, Any]):
    with pytest.raises(InputError, match=f"{other['classes']}, ignoring {other['ignore']}"):
        kind.of(CLASSES, IGNORE).merge(kind.of(**other))


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64])
def test_any_integers_are_counted(kind: Any, dtype: Any):
    rng = np.random.default_rng(0)
    truth, labels = rng.integers(0, CLASSES, (2, 30, 40))
    truth[:10] = IGNORE
    wanted, counted = kind.of(CLASSES, IGNORE), kind.of(CLASSES, IGNORE)
    wanted.add(truth, labels)
    counted.add(truth.astype(dtype), labels.astype(dtype))
    assert_equal(counted, wanted)


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"truth": 7}, "7 in the truth is not a class: they go from 0 to 4, and the ignored"),
        ({"truth": 254}, "254 in the truth .* the ignored value is 255"),
        ({"truth": -1}, "-1 in the truth"),
        ({"labels": 5}, "5 in the labels is not a class: they go from 0 to 4$"),
        ({"labels": IGNORE}, "255 in the labels"),
        ({"truth": np.zeros((9, 14), int)}, r"shape \(9, 14\), the labels \(9, 13\)"),
        ({"truth": np.zeros((9, 13))}, "dtype float64 in the truth"),
        ({"labels": np.zeros((9, 13), bool)}, "dtype bool in the labels"),
    ],
)
def test_what_cannot_be_counted_is_an_error(kind: Any, change: dict[str, Any], cause: str):
    image = {"truth": np.zeros((9, 13), np.int64), "labels": np.zeros((9, 13), np.int64)}
    for name, value in change.items():
        if isinstance(value, int):
            image[name][3, 4] = value
        else:
            image[name] = value
    metric = kind.of(CLASSES, IGNORE)
    with pytest.raises(InputError) as error:
        metric.add(**image)
    assert re.search(cause, error.value.cause)
    assert error.value.cure
    assert not any(value.any() for value in values(metric))


def test_nothing_counted_gives_no_number():
    truth = np.full((9, 13), IGNORE)
    counted = confusion(truth, np.zeros_like(truth), IGNORE)
    assert np.isnan(
        [counted.mean_iou(), counted.pixel_accuracy(), BoundaryScores.of(3).mean()]
    ).all()


@given(truth=MASKS, mask=MASKS, reach=st.integers(1, 4))
def test_boundary_f_is_that_of_exact_distances(truth: np.ndarray, mask: np.ndarray, reach: int):
    assert metrics.boundary_f(truth, mask, reach) == pytest.approx(
        _by_distances(truth, mask, reach)
    )


def _by_distances(truth: np.ndarray, mask: np.ndarray, reach: int) -> float:
    cross = ndimage.generate_binary_structure(2, 1)
    inner = [ndimage.binary_erosion(m, cross, border_value=1) for m in (truth, mask)]
    edges = [np.asarray(m > i, bool) for m, i in zip((truth, mask), inner, strict=True)]
    if not (edges[0].any() and edges[1].any()):
        return float((truth == mask).all())
    recall, precision = (
        np.mean(np.asarray(ndimage.distance_transform_edt(~other))[own] <= reach)
        for own, other in (edges, edges[::-1])
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_boundary_f_of_the_same_a_shifted_and_another_mask():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    assert metrics.boundary_f(mask, mask, 1) == 1
    assert metrics.boundary_f(mask, np.roll(mask, 2, 0), 2) == 1
    assert metrics.boundary_f(mask, np.roll(mask, 6, 1), 2) < 0.8
    nothing = np.zeros_like(mask)
    assert metrics.boundary_f(mask, nothing, 2) == 0
    assert metrics.boundary_f(nothing, ~nothing, 2) == 0
    assert metrics.boundary_f(nothing, nothing, 2) == metrics.boundary_f(~nothing, ~nothing, 2) == 1


def square(top: int, left: int, side: int = 20) -> np.ndarray:
    mask = np.zeros((60, 60), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_no_boundary_lies_along_an_ignored_region():
    """The left half of a square is ignored: only the rest of its boundary counts."""
    truth, ignored = square(20, 20), np.zeros((60, 60), bool)
    ignored[:, :30] = True
    assert metrics.boundary_f(truth, truth, 2, ignored) == 1
    wider = truth | square(20, 10)  # differs where nobody knows
    assert metrics.boundary_f(truth, wider, 2, ignored) == 1
    cut = truth & ~ignored  # ends where the ignored region begins: that is no boundary
    assert metrics.boundary_f(truth, cut, 2, ignored) == 1
    assert metrics.boundary_f(cut, truth, 2, ignored) == 1
    assert metrics.boundary_f(truth, np.roll(truth, 6, 1), 2, ignored) < 0.7
    assert metrics.boundary_f(truth, square(0, 40, 3), 2, ignored) == 0
    assert metrics.boundary_f(truth, np.zeros_like(truth), 2, ignored) == 0


def test_the_edge_of_an_ignored_region_matches_no_boundary():
    """A mask that goes on to the region misses the truth's left side, three pixels before it."""
    truth, mask, ignored = np.zeros((3, 60, 60), bool)
    truth[:, 12:41], mask[:, 10:41], ignored[:, :10] = True, True, True
    recall = 0.5  # the right side is found
    assert metrics.boundary_f(truth, mask, 2, ignored) == pytest.approx(2 * recall / (1 + recall))


def test_a_boundary_close_to_an_ignored_region_counts_neither_way():
    """A band of ignored pixels across one side of a square, as wide as annotators leave it."""
    truth, ignored = square(20, 20), np.zeros((60, 60), bool)
    ignored[15:45, 36:42] = True  # the true side at 40 is inside
    for side in (33, 36, 40, 43):
        mask = truth.copy()
        mask[20:40, 20:50] = False
        mask[20:40, 20:side] = True
        assert metrics.boundary_f(truth, mask, 4, ignored) == 1, side
    far = truth | square(20, 29)  # ends at 49, seven pixels beyond the band
    assert metrics.boundary_f(truth, far, 4, ignored) < 1


def test_a_boundary_hidden_by_ignored_pixels_gives_no_score():
    truth = square(20, 20)
    band = square(17, 17, 26) & ~square(21, 21, 18)
    for mask in (truth, square(19, 19), square(0, 0), np.zeros_like(truth)):
        assert np.isnan(metrics.boundary_f(truth, mask, 2, band))
    assert metrics.boundary_f(square(0, 0, 0), square(0, 0), 2, band) == 0  # is not in the truth

    labels = np.zeros((60, 60), np.uint8)
    labels[truth] = 3
    labels[band] = IGNORE
    scores = BoundaryScores.of(CLASSES, IGNORE)
    scores.add(labels, np.where(truth, 3, 0))
    assert np.isnan(scores.per_class()).all()


def test_boundary_scores_are_means_over_the_images_that_have_the_class():
    scores = BoundaryScores.of(4)
    truth = np.zeros((20, 20), np.int64)
    truth[5:15, 5:15] = 2
    scores.add(truth, truth)
    scores.add(truth, np.zeros_like(truth))
    found = scores.per_class()
    assert found[2] == pytest.approx(0.5)
    assert np.isnan(found[[1, 3]]).all()
