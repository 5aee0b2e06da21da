"""Segmentation metrics that accumulate image by image and merge over processes.

`of` starts a metric, `add` counts an image, and `merge` joins two. A metric can be pickled, and its
result does not depend on how images are shared among processes. A pixel whose truth is the `ignore`
value counts nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

TOLERANCE = 0.0075  # of the image's diagonal: how far off a boundary may be and still count
_ONE = 1 << 40  # boundary scores are summed in fixed point, which is exact in any order


@dataclass(eq=False)
class Confusion:
    """Number of pixels of each class that were given each label.

    Attributes:
        counts: int64 [C, C], rows truth, columns labels; the background is one of the C classes.
        ignore: value of a truth that is not counted, or None.
    """

    counts: np.ndarray
    ignore: int | None = None

    @classmethod
    def of(cls, classes: int, ignore: int | None = None) -> Confusion:
        """Start with no image counted."""
        return cls(np.zeros((classes, classes), np.int64), ignore)

    def add(self, truth: np.ndarray, labels: np.ndarray) -> None:
        """Count an image.

        Args:
            truth: integers [H, W] of any dtype, each a class from 0 to C - 1, or `ignore`.
            labels: integers [H, W] of any dtype, each a class.

        Raises:
            InputError: a value is not a class, or the two do not fit each other.
        """
        classes = len(self.counts)
        valid = _valid(truth, labels, classes, self.ignore)
        pairs = truth[valid].astype(np.int64) * classes + labels[valid].astype(np.int64)
        self.counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def merge(self, other: Confusion) -> Confusion:
        """Return the counts of both.

        Raises:
            InputError: they are of other classes, or ignore another value.
        """
        _check_merge((len(self.counts), self.ignore), (len(other.counts), other.ignore))
        return Confusion(self.counts + other.counts, self.ignore)

    def iou(self) -> np.ndarray:
        """Intersection over union of each class, float64 [C]; nan where there is no union."""
        both = np.diag(self.counts).astype(np.float64)
        either = self.counts.sum(axis=0) + self.counts.sum(axis=1) - both
        return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)

    def mean_iou(self, first: int = 0) -> float:
        """Mean IoU over the classes from `first` on that were seen; nan where none was."""
        return _mean(self.iou()[first:])

    def pixel_accuracy(self) -> float:
        """Part of the pixels that were given their class; nan where there are none."""
        return float(np.diag(self.counts).sum() / (self.counts.sum() or np.nan))


@dataclass(eq=False)
class BoundaryScores:
    """Boundary F-scores (Csurka et al., 2013): of each class, the mean over the images it is in.

    An image counts for a class that is in its truth or in its labels, unless ignored pixels hide
    the boundary; see `boundary_f`.

    Attributes:
        totals: sum of the scores of each class, int64 [C], in units of 2**-40.
        images: number of images that count for each class, int64 [C].
        ignore: value in a truth that is not to be counted, or None.
    """

    totals: np.ndarray
    images: np.ndarray
    ignore: int | None = None

    @classmethod
    def of(cls, classes: int, ignore: int | None = None) -> BoundaryScores:
        """Start with no image counted."""
        return cls(np.zeros(classes, np.int64), np.zeros(classes, np.int64), ignore)

    def add(self, truth: np.ndarray, labels: np.ndarray) -> None:
        """Count an image; see `Confusion.add`."""
        valid = _valid(truth, labels, len(self.totals), self.ignore)
        ignored = None if valid.all() else ~valid
        reach = max(1, round(TOLERANCE * float(np.hypot(*truth.shape))))
        for value in {*np.unique(truth[valid]).tolist(), *np.unique(labels[valid]).tolist()}:
            score = boundary_f(truth == value, labels == value, reach, ignored)
            if not np.isnan(score):
                self.totals[value] += round(score * _ONE)
                self.images[value] += 1

    def merge(self, other: BoundaryScores) -> BoundaryScores:
        """Return the scores of both; see `Confusion.merge`."""
        _check_merge((len(self.totals), self.ignore), (len(other.totals), other.ignore))
        return BoundaryScores(self.totals + other.totals, self.images + other.images, self.ignore)

    def per_class(self) -> np.ndarray:
        """Mean score of each class, float64 [C]; nan where no image counts."""
        seen = self.images > 0
        return np.divide(self.totals / _ONE, self.images, np.full(len(seen), np.nan), where=seen)

    def mean(self, first: int = 0) -> float:
        """Mean score over the classes from `first` on that were seen; nan where none was."""
        return _mean(self.per_class()[first:])


def rounded(score: float) -> float | None:
    """Round a score to 6 decimals, for reports; None where it is nan, as nothing was counted."""
    return None if np.isnan(score) else round(float(score), 6)


def boundary_f(
    truth: np.ndarray, mask: np.ndarray, reach: int, ignored: np.ndarray | None = None
) -> float:
    """Return the F-score of the boundary of one mask.

    Precision is the share of the mask's boundary that lies near the truth's boundary; recall is the
    reverse. What is inside an ignored region is unknown, so a mask has no boundary where it meets
    one. A boundary within reach of an ignored region counts for neither, as its match may lie
    inside. (Masks cut off at the ignored region, as in DAVIS, would share the cut and match.)

    Args:
        truth: true mask of a class, bool [H, W].
        mask: mask of the labels, bool [H, W].
        reach: tolerance in pixels.
        ignored: pixels that are not counted, bool [H, W]; None for no pixel.

    Returns:
        F-score from 0 to 1; nan where all of the truth's boundary is in or near ignored regions.
    """
    unknown = np.zeros_like(truth) if ignored is None else ignored
    truth, mask = truth & ~unknown, mask & ~unknown
    near = _grow(unknown, reach) if ignored is not None else unknown
    edges = [_boundary(truth, unknown), _boundary(mask, unknown)]
    counted = [edge & ~near for edge in edges]
    if not counted[0].any() and (truth & near).any():
        return np.nan
    if not counted[0].any() or not counted[1].any():  # one is empty, or all of the image
        return float(np.array_equal(truth, mask))
    recall = np.mean(_grow(edges[1], reach)[counted[0]])
    precision = np.mean(_grow(edges[0], reach)[counted[1]])
    return float(2 * precision * recall / max(precision + recall, np.finfo(float).tiny))


def _boundary(mask: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Mark pixels of a mask whose neighbor above, below, left or right is known to be outside."""
    solid = mask | unknown
    inner = mask.copy()
    inner[1:] &= solid[:-1]
    inner[:-1] &= solid[1:]
    inner[:, 1:] &= solid[:, :-1]
    inner[:, :-1] &= solid[:, 1:]
    return mask & ~inner


def _grow(mask: np.ndarray, reach: int) -> np.ndarray:
    """Mark pixels within `reach` of a mask."""
    height, width = mask.shape
    framed = np.pad(mask, reach)
    grown = np.zeros_like(mask)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down * down + right * right <= reach * reach:
                grown |= framed[reach + down :, reach + right :][:height, :width]
    return grown


def _valid(truth: np.ndarray, labels: np.ndarray, classes: int, ignore: int | None) -> np.ndarray:
    """Find the pixels that count, bool [H, W]; refuse what cannot be counted."""
    if truth.shape != labels.shape or truth.ndim != 2:
        raise InputError(
            f"the truth has shape {truth.shape}, the labels {labels.shape}",
            "both must be [H, W] of the same image",
        )
    valid = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    for name, values in (("truth", truth), ("labels", labels)):
        if not np.issubdtype(values.dtype, np.integer):
            raise InputError(f"dtype {values.dtype} in the {name}", "it must be of integers")
        wrong = values[valid & ((values < 0) | (values >= classes))]
        if wrong.size:
            cause = f"{wrong[0]} in the {name} is not a class: they go from 0 to {classes - 1}"
            if name == "truth":
                cause += f", and the ignored value is {ignore}"
            raise InputError(cause, "correct the data set's reader, or the `ignore` it states")
    return valid


def _check_merge(one: tuple[int, int | None], other: tuple[int, int | None]) -> None:
    """Refuse to merge metrics of other classes (their number, and the ignored value)."""
    if one != other:
        raise InputError(
            f"{one[0]} classes, ignoring {one[1]}, and {other[0]}, ignoring {other[1]}",
            "merge what was counted on the same data set",
        )


def _mean(values: np.ndarray) -> float:
    """Mean of the values that are not nan; nan where all are."""
    seen = values[~np.isnan(values)]
    return float(seen.mean()) if seen.size else np.nan
