from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pnp_ovss.engine import Segmenter, Settings
from pnp_ovss.engine.evaluation.datasets import DATASETS
from pnp_ovss.engine.evaluation.datasets.base import Dataset
from pnp_ovss.engine.evaluation.evaluate import evaluate
from pnp_ovss.engine.evaluation.sweep import sweep
from pnp_ovss.engine.methods.pnp_ovss.every_map import open_every_map
from pnp_ovss.export import export
from tests.conftest import IMAGE_SIZE, Exported

SETTINGS = Settings(passes=1, crf=None)
PICTURES = 5


class Oracle:
    """A segmenter that knows the truth, and has the names in another order than the data set."""

    def __init__(self, dataset: Dataset, wrong: str = "") -> None:
        self.dataset, self.wrong = dataset, wrong

    def stream(self, pairs: Any, **_: Any) -> Iterator[SimpleNamespace]:
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
    oracle: Any = Oracle(dataset)
    found = evaluate(oracle, dataset, SETTINGS, present=present, images=PICTURES)
    assert found.miou == found.boundary_f == found.pixel_accuracy == 1
    assert found.scores.tolist() == [1] * PICTURES
    seen = {name for i in range(PICTURES) for name in dataset.sample(i).classes}
    seen |= {"background"} if name == "stickers" else set()
    assert {name for name, iou in found.per_class.items() if iou is not None} == seen


@pytest.mark.parametrize("name", DATASETS)
def test_a_class_left_to_the_background_scores_nothing(name: str):
    """Without a background in the data set, that is no class, and nothing else is lost."""
    dataset = DATASETS[name]
    missed = dataset.sample(0).classes[0]
    oracle: Any = Oracle(dataset, wrong=missed)
    found = evaluate(oracle, dataset, SETTINGS, images=PICTURES)
    assert found.per_class[missed] == found.boundary_per_class[missed] == 0
    others = {k: v for k, v in found.per_class.items() if k not in (missed, "background")}
    assert {iou for iou in others.values() if iou is not None} == {1}
    assert ("background" in found.per_class) == (name == "stickers")


def test_a_sweep_gives_what_each_layer_and_head_gives_alone(exported: Exported, tmp_path: Path):
    dataset = DATASETS["stickers"]
    options: dict[str, Any] = {"image_size": IMAGE_SIZE, "trained": False}
    export(str(exported.checkpoint), tmp_path / "all", all_heads=True, **options)
    export(str(exported.checkpoint), tmp_path / "one", layer=(1,), head=(2,), **options)
    found = sweep(open_every_map(tmp_path / "all"), dataset, SETTINGS, images=PICTURES)
    with Segmenter.load(tmp_path / "one", device="cpu") as segmenter:
        alone = evaluate(segmenter, dataset, SETTINGS, images=PICTURES)
    assert found.miou.shape == (3, 4)  # the last of four layers has no salience
    assert found.miou[1, 2] == pytest.approx(alone.miou, abs=1e-3)
    assert found.maps.shape[:3] == (3, 4, len(found.sample.classes))
