from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from pnp_ovss.engine.evaluation.datasets import DATASETS
from pnp_ovss.engine.evaluation.datasets.stickers import scenes, textures
from pnp_ovss.engine.evaluation.datasets.stickers.atlas import stickers
from pnp_ovss.engine.evaluation.datasets.stickers.classes import CLASSES, PIECES, STICKERS, TEXTURES
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import scene

# sha256 of the pictures and of their truth, with NumPy 2.4 and Pillow 13.0 on x86-64.
DIGESTS = {
    "stickers": (
        "1c8efc3c537dd6056141590c1bc6f649631078928a19f876fddb3bc9d53ef0f8",
        "e2c398db26dd99409261ad86b6a7f4a2b6bb44f9fc073d95186b23910583d42c",
    ),
    "stickers-context": (
        "5ee125e790fd0b1025027f36cd44e801001664765c52672cefe92460d817fdcc",
        "1bc0d89e4e7371d0d7fcda75913502124cdd9eeac43ccc705992f984c4d8f909",
    ),
}
HASHED = {"stickers": 500, "stickers-context": 100}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.slow
def test_the_validation_set_is_the_same_to_the_byte(name: str):
    pictures, truths = hashlib.sha256(), hashlib.sha256()
    for index in range(HASHED[name]):
        sample = DATASETS[name].sample(index)
        pictures.update(sample.image.tobytes())
        truths.update(sample.truth.astype("<u2").tobytes())
    assert (pictures.hexdigest(), truths.hexdigest()) == DIGESTS[name]


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["stickers", "context"]),
    seed=st.integers(0, 1000),
    width=st.integers(120, 300),
    height=st.integers(120, 300),
    most=st.integers(2, 5),
)
def test_a_scene_holds_what_it_says(
    kind: scenes.Kind, seed: int, width: int, height: int, most: int
):
    made = scene(kind, seed, 0, (width, height), most)
    assert made.image.size == (width, height)
    assert made.image.mode == "RGB"
    assert made.labels.shape == (height, width)
    values = np.unique(made.labels).tolist()
    assert [value for value in values if value] == list(range(1, len(made.classes) + 1))
    assert 1 <= len(made.classes) <= most
    assert list(made.classes) == [name for name in CLASSES if name in made.classes]
    assert (0 in values) == (kind == "stickers")
    assert all(np.count_nonzero(made.labels == value) >= 200 for value in values if value)
    if kind == "stickers":
        assert not set(made.classes) & set(TEXTURES)


def test_scenes_differ_by_kind_seed_and_index():
    pictures = {
        scene("stickers", seed, index).image.tobytes() for seed in (0, 1) for index in (0, 1)
    }
    assert len(pictures) == 4


def test_a_mask_is_where_its_sticker_is():
    """Beside the bare background, a scene differs at its masks, and nowhere else."""
    made = scene("stickers", scenes.VALIDATION_SEED, 3)
    rng = np.random.default_rng([0, scenes.VALIDATION_SEED, 3])
    bare = textures.background(rng, scenes.SIDE, scenes.SIDE)
    touched = (np.asarray(made.image) != bare).any(axis=2)
    named = made.labels > 0
    assert not (named & ~touched).sum() > 0.02 * named.sum()  # but for pixels of like color
    near = np.asarray(ndimage.binary_dilation(named, iterations=3), bool)  # half-covered pixels
    assert not (touched & ~near).any()


@pytest.mark.slow
def test_every_class_appears():
    seen: set[str] = set()
    for index in range(150):
        seen.update(scene("stickers", scenes.VALIDATION_SEED, index, (128, 128)).classes)
        seen.update(scene("context", scenes.VALIDATION_SEED, index, (128, 128)).classes)
    assert seen == set(CLASSES)


def test_the_atlas_holds_a_cut_out_for_each_name():
    found = stickers()
    assert len(found) >= 32
    assert list(found) == list(STICKERS)
    for name, sticker in found.items():
        opaque = np.asarray(sticker)[..., 3] >= 128
        assert 0.15 < opaque.mean() < 0.95, name
    assert len({sticker.tobytes() for sticker in found.values()}) == len(found)


def test_names_have_several_words_and_word_pieces():
    assert any(" " in name for name in STICKERS)
    assert PIECES
    assert all("".join(p.removeprefix("##") for p in v) == k for k, v in PIECES.items())


@pytest.mark.parametrize("name", TEXTURES)
def test_textures_of_a_name_look_alike_and_differ(name: str):
    paint = textures.TEXTURES[name]
    first, second = (paint(np.random.default_rng(seed), 96, 128) for seed in (0, 1))
    assert first.shape == (96, 128, 3)
    assert first.dtype == np.uint8
    assert (first != second).any()
    assert np.abs(first.mean((0, 1)) - second.mean((0, 1))).max() < 60


def test_preview_can_be_saved(tmp_path):
    from click.testing import CliRunner

    from benchmarks.demo_model.__main__ import cli

    out = tmp_path / "sheet.png"
    done = CliRunner().invoke(cli, ["preview", "stickers", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert Image.open(out).width > 1000
