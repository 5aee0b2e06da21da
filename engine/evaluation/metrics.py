"""Segmentation metrics, counted image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOLERANCE = 0.0075  # of the image's diagonal: how far off a boundary may be and still count


def confusion(truth: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """How many pixels of each class were given each label.

    Args:
        truth: integers [H, W], from 0 and below `classes`.
        labels: likewise.
        classes: how many there are, the background included.

    Returns:
        int64 [classes, classes], rows truth, columns labels.
    """
    pairs = truth.ravel().astype(np.int64) * classes + labels.ravel()
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, float64 [classes]; nan where there is no union."""
    both = np.diag(counts).astype(np.float64)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    return np.divide(both, either, out=np.full(len(counts), np.nan), where=either > 0)


def pixel_accuracy(counts: np.ndarray) -> float:
    """The part of the pixels that were given their class."""
    return float(np.diag(counts).sum() / counts.sum())


@dataclass
class BoundaryScores:
    """Boundary F-scores (Csurka et al., 2013): of each class, the mean over the images it is in.

    An image counts for a class that is in its truth or in its labels. Precision is the part of the
    labels' boundary that lies near the truth's boundary, recall the reverse.
    """

    totals: np.ndarray
    images: np.ndarray

    @classmethod
    def of(cls, classes: int) -> BoundaryScores:
        """Nothing counted yet."""
        return cls(np.zeros(classes), np.zeros(classes, np.int64))

    def add(self, truth: np.ndarray, labels: np.ndarray) -> None:
        """Count an image: integers [H, W]."""
        reach = max(1, round(TOLERANCE * float(np.hypot(*truth.shape))))
        for value in np.union1d(truth, labels):
            self.totals[value] += boundary_f(truth == value, labels == value, reach)
            self.images[value] += 1

    def per_class(self) -> np.ndarray:
        """float64 [classes]; nan for a class in no image."""
        seen = self.images > 0
        return np.divide(self.totals, self.images, np.full(len(seen), np.nan), where=seen)


def boundary_f(truth: np.ndarray, mask: np.ndarray, reach: int) -> float:
    """F-score of the boundary of one mask.

    Args:
        truth: bool [H, W].
        mask: bool [H, W].
        reach: tolerance in pixels.
    """
    edges = [_boundary(truth), _boundary(mask)]
    if not edges[0].any() or not edges[1].any():  # one is empty, or all of the image
        return float(np.array_equal(truth, mask))
    recall = np.mean(_grow(edges[1], reach)[edges[0]])
    precision = np.mean(_grow(edges[0], reach)[edges[1]])
    return float(2 * precision * recall / max(precision + recall, np.finfo(float).tiny))


def _boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a neighbor, above, below, left or right, that is not of it."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return mask & ~inner


def _grow(mask: np.ndarray, reach: int) -> np.ndarray:
    """Pixels within `reach` of a mask."""
    height, width = mask.shape
    framed = np.pad(mask, reach)
    grown = np.zeros_like(mask)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            if down * down + right * right <= reach * reach:
                grown |= framed[reach + down :, reach + right :][:height, :width]
    return grown
