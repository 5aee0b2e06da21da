"""Chooses layers, heads and settings of the demo model, on scenes of a separate seed.

First it ranks every set of neighboring layers, with each head and with the average of all heads, by
one pass without a CRF. Then it tries one group of settings after the other, with the best layers
and heads and the whole method.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from pnp_ovss.engine.evaluation import Confusion, Dataset, evaluate
from pnp_ovss.engine.evaluation.datasets.stickers import sticker_scenes
from pnp_ovss.engine.evaluation.datasets.stickers.classes import CLASSES
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import SIDE
from pnp_ovss.engine.methods.base import Present
from pnp_ovss.engine.methods.pnp_ovss.every_map import every_map, layers_and_heads, open_every_map
from pnp_ovss.engine.pipeline.stages import prepare
from pnp_ovss.engine.refine import refine
from pnp_ovss.engine.segmenter import Segmenter
from pnp_ovss.engine.settings import Settings
from pnp_ovss.export import export

from .recipe import CHECKPOINT

SEED = 7
BLUR = 0.02  # before blur is searched for
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
SHOWN = 10

_SCHEDULES = ((1, 0), (2, 10), (2, 20), (3, 10), (4, 10), (4, "halving"))
GROUPS: tuple[list[dict[str, Any]], ...] = (
    [
        {"passes": passes, "drop_schedule": drop, "threshold": threshold}
        for passes, drop in _SCHEDULES
        for threshold in (0.03, 0.05, 0.08, 0.12)
    ],
    # Blur and threshold are searched together, as more blur needs a higher threshold. The paper's
    # blur is the largest: blur grows with the image and the reach of the CRF does not, so the gain
    # of more blur on scenes of 256 pixels is lost on larger images.
    [
        {"blur": blur, "threshold": threshold}
        for blur in (0.01, 0.02, 0.03, 0.05)
        for threshold in (0.03, 0.05, 0.08, 0.12)
    ],
)
"""Changes to the settings; the best change of a group applies to all later groups."""
LEVELS = (0.3, 0.5, 0.7, 0.9)


def tune(images: int) -> Iterator[str]:
    """Search for the layers, heads and settings with the highest mIoU.

    Args:
        images: Number of scenes to judge by.

    Returns:
        Lines of text: the score of everything that was tried, and last the best choice.
    """
    dataset = sticker_scenes("stickers", SEED)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _export(folder / "all", all_heads=True)
        ranked = _rank_heads(folder / "all", dataset, images)
        for miou, layers, heads, threshold in ranked[:SHOWN]:
            yield f"{miou:.4f}  layers {layers}, heads {heads}, threshold {threshold}"
        _, layers, heads, threshold = ranked[0]
        _export(folder / "best", layer=layers, head=heads)
        settings = Settings(threshold=threshold, blur=BLUR)
        with Segmenter.load(folder / "best") as segmenter:

            def score(changes: dict[str, Any], present: Present = "given") -> float:
                tried = replace(settings, **changes)
                return evaluate(segmenter, dataset, tried, present=present, images=images).miou

            for group in GROUPS:
                scores = [score(changes) for changes in group]
                yield from map("{:.4f}  {}".format, scores, group)
                settings = replace(settings, **group[int(np.argmax(scores))])
            levels = [{"match_threshold": level} for level in LEVELS]
            scores = [score(changes, "match") for changes in levels]
            yield from map("{:.4f}  {}".format, scores, levels)
            settings = replace(settings, **levels[int(np.argmax(scores))])
        yield f"layers {layers}, heads {heads}, {settings}"


def _rank_heads(
    folder: Path, dataset: Dataset, images: int
) -> list[tuple[float, tuple[int, ...], tuple[int, ...], float]]:
    """Rank layers, heads and thresholds by the mIoU of one pass without a CRF, the best first.

    Returns:
        Tuples of mIoU, layers, heads and threshold.
    """
    method = open_every_map(folder)
    layers, heads = map(len, layers_and_heads(method))
    neighbors = [tuple(range(a, b)) for a in range(layers) for b in range(a + 1, layers + 1)]
    chosen = [*((head,) for head in range(heads)), tuple(range(heads))]
    counts: defaultdict[tuple[tuple[int, ...], tuple[int, ...], float], Confusion] = defaultdict(
        lambda: Confusion.of(len(dataset.names), dataset.ignore)
    )
    for index in range(images):
        sample = dataset.sample(index)
        request = prepare(method, sample.image, sample.classes, Settings())
        maps, numbers = every_map(method, request), dataset.numbers(sample.classes)
        for own_layers, own_heads, threshold in product(neighbors, chosen, THRESHOLDS):
            settings = Settings(threshold=threshold, blur=BLUR, crf=None)
            averaged = maps[np.ix_(own_layers, own_heads)].mean(axis=(0, 1))
            labels = numbers[refine(request.image, averaged, settings)]
            counts[own_layers, own_heads, threshold].add(sample.truth, labels)
    method.close()
    first = dataset.first_class
    return sorted(((n.mean_iou(first), *key) for key, n in counts.items()), reverse=True)


def _export(folder: Path, **selection: Any) -> None:
    export(str(CHECKPOINT), folder, image_size=SIDE, classes=CLASSES, **selection)
