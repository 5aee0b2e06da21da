from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from pnp_ovss.engine import Segmenter, Settings
from pnp_ovss.engine.device import CPU, Device
from pnp_ovss.engine.inputs.images import model_input
from pnp_ovss.engine.inputs.text import CaptionTokens
from pnp_ovss.engine.methods.pnp_ovss.captions import CaptionBatch
from pnp_ovss.engine.methods.pnp_ovss.locate import PnpOvss
from pnp_ovss.export.models.base import Choice
from pnp_ovss.export.models.blip.eager import autograd_salience
from pnp_ovss.kernels import reference
from tests import thresholds
from tests.conftest import Exported

SALIENCE = np.arange(5 * 4, dtype=np.float32).reshape(5, 4)
CAPTION = CaptionTokens([1, 2, 3, 4, 5], [(0, [1]), (2, [2, 3])])


def maps_of(segmenter, salience: np.ndarray, caption: CaptionTokens, **options) -> np.ndarray:
    captioner = segmenter.method.graphs.captioner
    batch = CaptionBatch.of(captioner, [[caption]], CPU, **options)
    assert batch.first_class == [0, len(caption.owners)]
    return reference.class_maps(salience[None], batch.members, batch.first_member, batch.summed)


def test_class_map_is_the_mean_over_its_tokens(segmenter):
    maps = maps_of(segmenter, SALIENCE, CAPTION)
    np.testing.assert_array_equal(maps, [SALIENCE[1], SALIENCE[2:4].mean(axis=0)])


def test_class_map_of_the_last_class_may_be_summed(segmenter):
    maps = maps_of(segmenter, SALIENCE, CAPTION, sum_last=True)
    np.testing.assert_array_equal(maps, [SALIENCE[1], SALIENCE[2:4].sum(axis=0)])


def test_captions_of_several_pictures_are_padded_and_counted(segmenter):
    captioner = segmenter.method.graphs.captioner
    short = CaptionTokens([1, 2, 3], [(0, [1])])
    batch = CaptionBatch.of(captioner, [[short], [CAPTION, short]], CPU, sum_last=True)
    assert (batch.first, batch.first_class) == ([0, 1, 3], [0, 1, 4])
    assert batch.mask.tolist() == [[1, 1, 1, 0, 0], [1] * 5, [1, 1, 1, 0, 0]]
    assert np.argwhere(batch.class_token).tolist() == [[0, 1], [1, 1], [1, 2], [1, 3], [2, 1]]
    assert batch.members.tolist() == [1, 6, 7, 8, 11]
    assert batch.first_member.tolist() == [0, 1, 2, 4, 5]
    assert batch.summed.tolist() == [True, False, True, True]


@dataclass
class Spy:
    """Passes on to the graphs of a model, and keeps what each was given."""

    runners: Any
    feeds: dict[str, list[dict[str, np.ndarray]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def device(self) -> Device:
        return self.runners.device

    def run(self, graph, feeds, outputs=None):
        self.feeds[graph].append(dict(feeds))
        return self.runners.run(graph, feeds, outputs)

    def close(self) -> None:
        self.runners.close()


@pytest.mark.parametrize(
    ("schedule", "kept"), [("halving", [19, 10, 6]), (17, [20, 3, 2]), (36, [2, 2, 2])]
)
def test_tokens_mode_encodes_what_is_left_and_reads_nothing_else(
    segmenter, picture, schedule, kept
):
    """[CLS] and patches; where there are none, [CLS] and padding."""
    spy: Any = Spy(segmenter.method.graphs.runners)
    spied = PnpOvss(replace(segmenter.method.graphs, runners=spy))
    settings = Settings(drop_schedule=schedule, drop_mode="tokens", crf=None)
    pairs = [(picture(seed), ["cat", "sky"]) for seed in range(3)]
    Segmenter(segmenter.model, spied).segment_batch(pairs, settings=settings)
    (whole,), some = spy.feeds["vision"], spy.feeds["vision_tokens"]
    assert [feeds["kept"].shape for feeds in some] == [(3, count) for count in kept]
    read = [feeds for feeds in spy.feeds["salience"] if len(feeds["patch_keep"]) == 3]
    for encoded, seen in zip(some, read[1:], strict=True):
        np.testing.assert_array_equal(encoded["pixel_values"], whole["pixel_values"])
        for positions, keep in zip(encoded["kept"], seen["patch_keep"], strict=True):
            there = 1 + np.flatnonzero(keep)
            assert positions.tolist() == [0, *there, *[0] * (len(positions) - 1 - len(there))]


@pytest.mark.parametrize("schedule", ["halving", 5, 0, 1000])
def test_attention_mode_masks_dropped_patches_and_encodes_once(
    segmenter, exported: Exported, picture, schedule
):
    """Against autograd, on image embeddings from which the dropped patches were taken out."""
    import torch

    classes = ["cat", "potted plant"]
    (caption,) = segmenter.method.graphs.captioner.write(classes)
    pixels = model_input(picture(3), segmenter.method.preprocess)[None]
    with torch.no_grad():
        embeds = exported.model.vision_model(
            torch.from_numpy(pixels), interpolate_pos_encoding=True
        ).last_hidden_state.numpy()
    keep = np.ones((1, 36), np.float32)
    total = np.zeros((len(caption.ids), 36), np.float32)
    tokens = [token for _, owned in caption.owners for token in owned]
    for _ in range(3):
        feeds = {
            "image_embeds": embeds,
            "input_ids": np.array([caption.ids]),
            "attention_mask": np.ones((1, len(caption.ids)), np.int64),
            "patch_keep": keep,
        }
        model = exported.model
        salience = autograd_salience(model, feeds, Choice((2,), (3,)))["salience"][0]
        total += salience
        left = int(keep.sum())
        count = left // 2 if schedule == "halving" else schedule
        scores = np.where(keep[0], salience[tokens].sum(axis=0), -np.inf)
        keep[0, np.argsort(-scores, kind="stable")[: min(count, left)]] = 0

    settings = Settings(passes=3, drop_schedule=schedule, drop_mode="attention", crf=None)
    found = segmenter.segment(picture(3), classes, settings=settings).class_maps
    wanted = maps_of(segmenter, total, caption).reshape(found.shape)
    assert np.abs(found - wanted).max() <= thresholds.CLASS_MAPS * wanted.max()
