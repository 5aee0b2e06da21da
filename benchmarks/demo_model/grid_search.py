"""Choosing layers, heads and settings for the demo model, on scenes of a seed of their own.

First every set of neighboring layers, with each head and with all of them averaged, by one pass
without a CRF; then, with the best, one group of settings after the other, the whole method.
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
BLUR = 0.02  # to begin with
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
SHOWN = 10

_SCHEDULES = ((1, 0), (2, 10), (2, 20), (3, 10), (4, 10), (4, "halving"))
GROUPS: tuple[list[dict[str, Any]], ...] = (
    [
        {"passes": passes, "drop_schedule": drop, "threshold": threshold}
        for passes, drop in _SCHEDULES
        for threshold in (0.03, 0.05, 0.08, 0.12)
    ],
    # Together, as the more is blurred, the higher the best threshold. No more than the paper's
    # blur: it grows with the picture and the reach of the CRF does not, so what more of it gains on
    # scenes of 256 pixels is lost on larger pictures.
    [
        {"blur": blur, "threshold": threshold}
        for blur in (0.01, 0.02, 0.03, 0.05)
        for threshold in (0.03, 0.05, 0.08, 0.12)
    ],
)
"""Changes to the settings, of which the best of each group is kept, group after group."""
LEVELS = (0.3, 0.5, 0.7, 0.9)


def tune(pictures: int) -> Iterator[str]:
    """Look for the best; lines that tell of it.

    Args:
        pictures: how many scenes to judge by.
    """
    dataset = sticker_scenes("stickers", SEED)
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        _export(folder / "all", all_heads=True)
        ranked = _rank_heads(folder / "all", dataset, pictures)
        for miou, layers, heads, threshold in ranked[:SHOWN]:
            yield f"{miou:.4f}  layers {layers}, heads {heads}, threshold {threshold}"
        _, layers, heads, threshold = ranked[0]
        _export(folder / "best", layer=layers, head=heads)
        settings = Settings(threshold=threshold, blur=BLUR)
        with Segmenter.load(folder / "best") as segmenter:

            def score(changes: dict[str, Any], present: Present = "given") -> float:
                tried = replace(settings, **changes)
                return evaluate(segmenter, dataset, tried, present=present, images=pictures).miou

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
    folder: Path, dataset: Dataset, pictures: int
) -> list[tuple[float, tuple[int, ...], tuple[int, ...], float]]:
    """mIoU, layers, heads and threshold of one pass without a CRF, the best first."""
    method = open_every_map(folder)
    layers, heads = map(len, layers_and_heads(method))
    neighbors = [tuple(range(a, b)) for a in range(layers) for b in range(a + 1, layers + 1)]
    chosen = [*((head,) for head in range(heads)), tuple(range(heads))]
    counts: defaultdict[tuple[tuple[int, ...], tuple[int, ...], float], Confusion] = defaultdict(
        lambda: Confusion.of(len(dataset.names), dataset.ignore)
    )
    for index in range(pictures):
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
