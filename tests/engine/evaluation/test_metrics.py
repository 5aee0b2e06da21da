from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from pnp_ovss.engine.evaluation import metrics

CLASSES = 5
LABELS = hnp.arrays(np.int64, (9, 13), elements=st.integers(0, CLASSES - 1))
MASKS = hnp.arrays(bool, (11, 15))


@given(truth=LABELS, labels=LABELS)
def test_counts_iou_and_accuracy_are_scikit_learns(truth: np.ndarray, labels: np.ndarray):
    counts = metrics.confusion(truth, labels, CLASSES)
    flat = truth.ravel(), labels.ravel()
    np.testing.assert_array_equal(counts, confusion_matrix(*flat, labels=range(CLASSES)))
    assert metrics.pixel_accuracy(counts) == pytest.approx(accuracy_score(*flat))
    seen = sorted(set(flat[0]) | set(flat[1]))
    wanted = jaccard_score(*flat, labels=seen, average=None)  # pyright: ignore
    found = metrics.iou(counts)
    np.testing.assert_allclose(found[seen], wanted)
    assert np.isnan(np.delete(found, seen)).all()
    assert np.nanmean(found) == pytest.approx(jaccard_score(*flat, labels=seen, average="macro"))


def test_counts_add_up_over_pictures():
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, CLASSES, (2, 3, 8, 8))
    together = sum(metrics.confusion(t, p, CLASSES) for t, p in zip(*pairs, strict=True))
    whole = metrics.confusion(pairs[0].reshape(24, 8), pairs[1].reshape(24, 8), CLASSES)
    np.testing.assert_array_equal(together, whole)


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


def test_boundary_scores_are_means_over_the_pictures_that_have_the_class():
    scores = metrics.BoundaryScores.of(4)
    truth = np.zeros((20, 20), np.int64)
    truth[5:15, 5:15] = 2
    scores.add(truth, truth)
    scores.add(truth, np.zeros_like(truth))
    found = scores.per_class()
    assert found[2] == pytest.approx(0.5)
    assert np.isnan(found[[1, 3]]).all()
