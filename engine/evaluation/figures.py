"""Draw the figures of an evaluation with Matplotlib, without a screen."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..result import overlay
from ..result.palette import class_colors
from .evaluate import Evaluation
from .sweep import Sweep

COLUMNS = 5  # images each of the best, the median and the worst
_DPI = 110


def figures(result: Evaluation | Sweep) -> dict[str, Callable[[Path], None]]:
    """Return for each file name of a result's figures the function that draws it to a path.

    The contact sheet is among them where label maps were kept.
    """
    if isinstance(result, Sweep):
        return {"layers-and-heads.png": partial(layers_and_heads, result)}
    drawn: dict[str, Callable[[Path], None]] = {"confusion.png": partial(confusion_matrix, result)}
    if _scored(result):
        drawn["contact-sheet.png"] = partial(contact_sheet, result)
    return drawn


def confusion_matrix(evaluation: Evaluation, path: Path) -> None:
    """Draw the confusion matrix: the share of a class's pixels (rows) that was given each label."""
    counts = evaluation.confusion.counts
    rows = np.flatnonzero(counts.sum(axis=1))
    columns = np.flatnonzero(counts.sum(axis=1) + counts.sum(axis=0))
    shares = counts[np.ix_(rows, columns)] / counts[rows].sum(axis=1, keepdims=True)
    down, across = ([evaluation.dataset.names[i] for i in indices] for indices in (rows, columns))
    figure = Figure(
        figsize=(2.5 + 0.24 * len(across), 2.5 + 0.24 * len(down)), layout="constrained"
    )
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="magma", norm=colors.PowerNorm(0.5, 0, 1))
    axes.set_xticks(range(len(across)), across, rotation=90, fontsize=8)
    axes.set_yticks(range(len(down)), down, fontsize=8)
    axes.set(xlabel="label", ylabel="truth")
    axes.set_title(f"pixels of each class by label; mIoU {evaluation.miou:.3f}", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.6)
    figure.savefig(path, dpi=_DPI, format="png")


def contact_sheet(evaluation: Evaluation, path: Path) -> None:
    """Draw the images with the best, the median and the worst mIoU; truth above, labels below.

    They are of those whose label maps were kept.
    """
    order = sorted(_scored(evaluation), key=lambda index: -evaluation.scores[index])
    columns = min(COLUMNS, len(order))
    middle = (len(order) - columns) // 2
    groups = {
        "best": order[:columns],
        "median": order[middle : middle + columns],
        "worst": order[len(order) - columns :],
    }
    figure = Figure(figsize=(2.6 * columns, 18), layout="constrained")
    parts: Any = figure.subfigures(3)
    for part, (name, indices) in zip(parts, groups.items(), strict=True):
        part.suptitle(name, fontsize=13, weight="bold")
        axes = part.subplots(2, columns, squeeze=False)
        for column, index in enumerate(indices):
            score = f"#{index}  mIoU {evaluation.scores[index]:.2f}"
            _truth_and_labels(axes[:, column], evaluation, index)
            axes[0, column].set_title(f"{score}\n{axes[0, column].get_title()}", fontsize=8)
    figure.savefig(path, dpi=_DPI, format="png")


def layers_and_heads(sweep: Sweep, path: Path) -> None:
    """Draw the salience of one image at every layer and head, with the mIoU over all images."""
    rows, columns = sweep.miou.shape
    figure = Figure(figsize=(2.1 * columns + 2.4, 2.35 * rows), layout="constrained")
    axes = figure.subplots(rows, columns + 1, squeeze=False)
    for axis in axes[:, 0]:
        axis.set_axis_off()
    axes[0, 0].imshow(sweep.sample.image)
    axes[0, 0].set_title("\n".join(sweep.sample.classes), fontsize=8)
    best = sweep.miou.max()
    for row, column in np.ndindex(rows, columns):
        axis: Any = axes[row, column + 1]
        _heat(axis, sweep.sample.image, sweep.maps[row, column].sum(axis=0))
        value = sweep.miou[row, column]
        axis.set_title(
            f"layer {sweep.layers[row]}, head {sweep.heads[column]}: {value:.3f}",
            fontsize=8,
            weight="bold" if value == best else "normal",
        )
    figure.savefig(path, dpi=_DPI, format="png")


def _scored(evaluation: Evaluation) -> list[int]:
    """List the images with a label map and a score; an image that is all ignored has none."""
    return [one for one in evaluation.with_labels if not np.isnan(evaluation.scores[one])]


def _heat(axis: Axes, image: Image.Image, salience: np.ndarray) -> None:
    axis.imshow(image.convert("L"), cmap="gray", extent=(0, 1, 0, 1))
    axis.imshow(salience, cmap="inferno", alpha=0.7, extent=(0, 1, 0, 1), interpolation="bilinear")
    axis.set_axis_off()


def _truth_and_labels(axes: Sequence[Axes], evaluation: Evaluation, index: int) -> None:
    """Draw overlays of truth and labels in the same colors, under the names of the classes."""
    sample = evaluation.dataset.read(index)
    truth = np.where(sample.truth == evaluation.dataset.ignore, 0, sample.truth)
    both = (truth, evaluation.labels(index))
    values = [value for value in np.union1d(*both).tolist() if value]
    compact = np.zeros(len(evaluation.dataset.names), np.uint16)
    compact[values] = np.arange(1, len(values) + 1)
    for axis, labels in zip(axes, both, strict=True):
        axis.imshow(overlay.draw(sample.image, compact[labels], class_colors(len(values))))
        axis.set_axis_off()
        seen = [evaluation.dataset.names[value] for value in np.unique(labels).tolist() if value]
        axis.set_title(textwrap.fill(", ".join(seen), 34), fontsize=8)
