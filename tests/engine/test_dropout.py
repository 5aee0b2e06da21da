from __future__ import annotations

import numpy as np
import pytest
from pnp_ovss.engine import Settings
from pnp_ovss.engine.caption import CaptionTokens
from pnp_ovss.engine.dropout import class_maps
from pnp_ovss.engine.images import preprocess
from pnp_ovss.export import validate

from tests import thresholds
from tests.conftest import IMAGE_SIZE, Exported

SALIENCE = np.arange(5 * 4, dtype=np.float32).reshape(5, 4)
CAPTION = CaptionTokens([1, 2, 3, 4, 5], [(0, [1]), (2, [2, 3])])


def test_class_map_is_the_mean_over_its_tokens():
    maps = class_maps([SALIENCE], [CAPTION], 3)
    np.testing.assert_array_equal(maps[0].ravel(), SALIENCE[1])
    np.testing.assert_array_equal(maps[1].ravel(), 0)
    np.testing.assert_array_equal(maps[2].ravel(), SALIENCE[2:4].mean(axis=0))


def test_class_map_of_the_last_class_may_be_summed():
    maps = class_maps([SALIENCE], [CAPTION], 3, sum_last=True)
    np.testing.assert_array_equal(maps[0].ravel(), SALIENCE[1])
    np.testing.assert_array_equal(maps[2].ravel(), SALIENCE[2:4].sum(axis=0))


@pytest.mark.parametrize("schedule", ["halving", 5, 0, 1000])
def test_attention_mode_masks_dropped_patches_and_encodes_once(
    segmenter, exported: Exported, picture, schedule
):
    """Against autograd, on image embeddings from which the dropped patches were taken out."""
    import torch

    classes = ["cat", "potted plant"]
    (caption,) = segmenter._network.captioner.write(classes)
    pixels = preprocess(picture(3), IMAGE_SIZE)[None]
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
        salience = validate.autograd_salience(model, feeds, [2], [3], separate=False)["salience"][0]
        total += salience
        left = int(keep.sum())
        count = left // 2 if schedule == "halving" else schedule
        scores = np.where(keep[0], salience[tokens].sum(axis=0), -np.inf)
        keep[0, np.argsort(-scores, kind="stable")[: min(count, left)]] = 0

    settings = Settings(passes=3, drop_schedule=schedule, drop_mode="attention", crf=None)
    found = segmenter.segment(picture(3), classes, settings=settings).class_maps
    wanted = class_maps([total], [caption], 2)
    assert np.abs(found - wanted).max() <= thresholds.CLASS_MAPS * wanted.max()
