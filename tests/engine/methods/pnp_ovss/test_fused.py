"""What feeds a fused graph from Python, without the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pnp_ovss.engine import InputError, Settings
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.methods.pnp_ovss.fused import caption_inputs, join_names
from pnp_ovss.engine.model.folder import open_model

PAPER = Settings()


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner.load(open_model("demo"))


def test_captions_are_padded_over_the_batch(captioner: Captioner):
    inputs = caption_inputs(captioner, [["birthday cake", "cat"], ["sand"]], PAPER)
    two, one = captioner.write(["birthday cake", "cat"])[0], captioner.write(["sand"])[0]
    ids, mask, weights = (inputs[name] for name in ("input_ids", "attention_mask", "class_tokens"))
    assert (ids.dtype, mask.dtype, weights.dtype) == (np.int64, np.int64, np.float32)
    assert ids.shape == mask.shape == (2, len(two.ids))
    assert weights.shape == (2, 2, len(two.ids))
    assert ids[0].tolist() == two.ids
    assert ids[1, : len(one.ids)].tolist() == one.ids
    assert mask.sum(axis=1).tolist() == [len(two.ids), len(one.ids)]
    (_, cake), (_, cat) = two.owners
    assert len(cake) > 1
    assert np.flatnonzero(weights[0, 0]).tolist() == cake
    assert weights[0, 0, cake].tolist() == [np.float32(1 / len(cake))] * len(cake)
    assert np.flatnonzero(weights[0, 1]).tolist() == cat
    assert not weights[1, 1].any()  # padding


def test_the_last_name_of_a_caption_may_be_summed(captioner: Captioner):
    settings = Settings(sum_last_class=True)
    inputs = caption_inputs(captioner, [["cat", "birthday cake"], ["hot dog"]], settings)
    assert inputs["class_tokens"].max(axis=2).tolist() == [[1, 1], [1, 0]]
    assert inputs["class_tokens"].sum(axis=2)[0, 1] > 1


def test_a_folder_is_as_good_as_its_captioner(captioner: Captioner):
    ours = caption_inputs(open_model("demo"), [["cat"]], PAPER)
    for name, value in caption_inputs(captioner, [["cat"]], PAPER).items():
        np.testing.assert_array_equal(ours[name], value)


def test_each_name_of_a_class_has_a_row(captioner: Captioner):
    classes = [["turtle", "frog"], "umbrella"]
    assert caption_inputs(captioner, [classes], PAPER)["class_tokens"].shape[1] == 3
    maps = np.random.default_rng(0).random((5, 4, 4)).astype(np.float32)  # two are padding
    joined = join_names(maps, classes)
    np.testing.assert_array_equal(joined, [np.maximum(maps[0], maps[1]), maps[2]])
    with pytest.raises(InputError, match="2 class maps for 3 names"):
        join_names(maps[:2], classes)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "no image has classes"),
        ([[]], "no class was named"),
        ([["cat"], "cat"], "classes is 'cat'"),
        ([["cat", "Cat"]], "named twice"),
        ([["dog"]], "was not taught to this model"),
        ([["cat"], None], "classes is None"),
    ],
)
def test_bad_classes(captioner: Captioner, classes: Any, message: str):
    with pytest.raises(InputError, match=message):
        caption_inputs(captioner, classes, PAPER)


def test_names_that_do_not_fit_into_one_caption(captioner: Captioner):
    names = open_model("demo").manifest.classes
    assert len(captioner.write(names)) > 1
    with pytest.raises(InputError, match=r"takes one caption, and only \d+ of 40 names") as caught:
        caption_inputs(captioner, [["cat"], names], PAPER)
    assert "name fewer classes" in caught.value.cure
