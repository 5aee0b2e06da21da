from __future__ import annotations

import numpy as np
import pytest

from benchmarks.baselines.eager import PRESETS, EagerSegmenter
from tests import thresholds
from tests.conftest import IMAGE_SIZE, Exported


def eager(exported: Exported, fast_tokenizer, form) -> EagerSegmenter:
    return EagerSegmenter(
        exported.model,
        fast_tokenizer,
        image_size=IMAGE_SIZE,
        layers=[0, 2],
        heads=[1, 3],
        form=form,
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_both_forms_compute_the_same(exported: Exported, fast_tokenizer, picture, preset):
    classes = ["cat", "potted plant"]
    lean, released = (
        eager(exported, fast_tokenizer, form).maps(picture(), classes, PRESETS[preset])
        for form in ("lean", "released")
    )
    assert lean.class_maps.max() > 0
    difference = np.abs(lean.class_maps - released.class_maps).max()
    assert difference <= thresholds.CLASS_MAPS * lean.class_maps.max()


def test_presets_differ_as_the_method_says(exported: Exported, fast_tokenizer, picture):
    """In one pass nothing is dropped: `released` counts it twice, and sums over the last class."""
    from dataclasses import replace

    model = eager(exported, fast_tokenizer, "lean")
    paper, released = (
        model.maps(picture(), ["cat", "antidisestablishmentarianism"], replace(preset, passes=1))
        for preset in PRESETS.values()
    )
    pieces = len(fast_tokenizer.tokenize("antidisestablishmentarianism"))
    assert pieces > 1
    np.testing.assert_allclose(released.class_maps[0], 2 * paper.class_maps[0], rtol=1e-5)
    np.testing.assert_allclose(released.class_maps[1], 2 * pieces * paper.class_maps[1], rtol=1e-5)


def test_checkpoint_folder_is_loaded_with_its_tokenizer(
    exported: Exported, fast_tokenizer, picture
):
    options = {"image_size": IMAGE_SIZE, "layers": [0, 2], "heads": [1, 3]}
    loaded = EagerSegmenter.load(exported.checkpoint, **options).maps(picture(), ["tv-monitor"])
    wanted = eager(exported, fast_tokenizer, "lean").maps(picture(), ["tv-monitor"])
    np.testing.assert_allclose(loaded.class_maps, wanted.class_maps, rtol=1e-4, atol=1e-9)
