"""Steps 1 to 5 of the method, each against its plain form in `tests/method/localization.py`."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer

from pnp_ovss.engine import Segmenter, Settings
from pnp_ovss.engine.inputs.images import load_rgb, model_input
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.model.manifest import Preprocess
from pnp_ovss.engine.settings import PRESETS
from pnp_ovss.export.models.blip.checkpoint import MEAN, STD
from pnp_ovss.kernels import reference
from tests import thresholds
from tests.conftest import IMAGE_SIZE, Exported
from tests.method import localization as steps

ENC = 30523
CLASSES = [
    ["cat"],
    ["potted plant", "tv-monitor"],
    ["X-ray machine", "dog", "antidisestablishmentarianism"],
    ["sky", "fire engine", "hot air balloon", "Dining Table", "wall-concrete"],
]


@pytest.fixture(scope="module")
def exact(exported: Exported) -> Any:
    """The model of the fixture, in float64."""
    return deepcopy(exported.model).double().requires_grad_(False)


@pytest.fixture(scope="module")
def captioner(exported: Exported) -> Captioner:
    return Captioner.load(open_model(exported.folder))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("classes", CLASSES, ids=len)
def test_step_1_a_caption_names_all_classes_and_a_class_owns_its_word_pieces(
    captioner: Captioner, tokenizer: Tokenizer, classes: list[str], preset: str
):
    join = Settings.preset(preset).join_words
    names = [steps.joined(name) for name in classes] if join else classes
    ids, places = steps.caption(names, tokenizer.get_vocab(), ENC)
    (written,) = captioner.write(classes, join=join)
    assert written.ids == ids
    assert [tokens for _, tokens in written.owners] == places


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzABC ,.-'", min_size=1, max_size=40))
def test_step_2_names_become_word_pieces(tokenizer: Tokenizer, text: str):
    vocabulary = tokenizer.get_vocab()
    found = tokenizer.encode(text.lower(), add_special_tokens=False).ids
    assert found == steps.word_pieces(text, vocabulary)


def test_step_2_enc_comes_first_and_sep_last(captioner: Captioner, tokenizer: Tokenizer):
    (written,) = captioner.write(["cat"])
    assert written.ids[0] == ENC  # not [CLS], which Hugging Face's processor leaves there
    assert written.ids[-1] == tokenizer.token_to_id("[SEP]")


@pytest.mark.parametrize("size", [(80, 60), (31, 97), (336, 336), (640, 427)])
def test_step_3_an_image_becomes_a_square_of_normalized_pixels(picture, size):
    image = picture(5, *size)
    np.testing.assert_allclose(
        model_input(image, Preprocess((96, 96), 16, MEAN, STD)),
        steps.pixels(image, 96),
        rtol=0,
        atol=thresholds.PIXELS,
    )


def test_step_3_what_is_transparent_is_white_and_exif_turns():
    image = Image.new("RGBA", (20, 10), (255, 0, 0, 0))
    white = Image.new("RGB", (20, 10), "white")
    np.testing.assert_array_equal(np.asarray(load_rgb(image)), np.asarray(white))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.new("RGB", (20, 10))
    turned.info["exif"] = exif.tobytes()
    assert load_rgb(turned).size == (10, 20)


@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3]), min_size=1, max_size=40),
    dropped=st.integers(0, 2**40 - 1),
    count=st.none() | st.integers(0, 50),
)
def test_step_4_patches_are_dropped_by_score_and_of_equals_by_index(scores, dropped, count):
    gone = np.array([bool(dropped >> bit & 1) for bit in range(len(scores))])
    wanted = gone.copy()
    left = int((~gone).sum())
    wanted[steps.best_patches(np.array(scores), ~gone, left // 2 if count is None else count)] = 1
    (found,) = reference.drop_salient(np.array([scores], np.float32), gone[None], count)
    np.testing.assert_array_equal(found, wanted)


def by_steps(
    exact: Any, image: Any, names: Any, tokenizer: Tokenizer, manifest: Any, preset: str
) -> Any:
    """Class maps and match of an image by the written steps, in float64."""
    return steps.class_maps(
        exact,
        image,
        names,
        tokenizer.get_vocab(),
        encode_id=ENC,
        layer=manifest.layer,
        head=manifest.head,
        side=IMAGE_SIZE,
        patch=manifest.preprocess.patch,
        preset=preset,
    )


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("classes", CLASSES, ids=len)
def test_steps_4_and_5_passes_of_salience_dropout_give_class_maps(
    segmenter: Segmenter,
    exact: Any,
    tokenizer: Tokenizer,
    picture,
    classes: list[str],
    preset: str,
):
    """The whole way from names and pixels, by Hugging Face's model and autograd in float64."""
    image = picture(len(classes), 90, 70)
    manifest = segmenter.model.manifest
    maps, match = by_steps(exact, image, classes, tokenizer, manifest, preset)
    found = segmenter.segment(image, classes, settings=Settings.preset(preset, crf=None))
    assert maps.max() > 0
    difference = np.abs(found.class_maps - maps).max()
    assert difference <= thresholds.CLASS_MAPS_EXACT * maps.max()
    np.testing.assert_allclose(found.match, match, rtol=0, atol=thresholds.MATCH)


@pytest.mark.parametrize("preset", PRESETS)
def test_step_5_a_class_with_synonyms_is_the_largest_of_their_maps(
    segmenter: Segmenter, exact: Any, tokenizer: Tokenizer, picture, preset: str
):
    image, manifest = picture(2, 90, 70), segmenter.model.manifest
    names = ["dog", "sofa", "tv-monitor", "hot air balloon"]
    maps, _ = by_steps(exact, image, names, tokenizer, manifest, preset)
    classes = ["dog", ["sofa", "tv-monitor", "hot air balloon"]]
    found = segmenter.segment(image, classes, settings=Settings.preset(preset, crf=None))
    wanted = np.stack([maps[0], np.maximum(maps[1], np.maximum(maps[2], maps[3]))])
    assert np.abs(found.class_maps - wanted).max() <= thresholds.CLASS_MAPS_EXACT * wanted.max()


def test_the_last_layer_has_no_salience_for_class_tokens(exact: Any, tokenizer: Tokenizer):
    """The ITM head reads the first token, and nothing mixes tokens after the last attention."""
    ids, places = steps.caption(["cat", "dog"], tokenizer.get_vocab(), ENC)
    pixels = np.random.default_rng(0).normal(size=(3, IMAGE_SIZE, IMAGE_SIZE))
    last = len(exact.text_encoder.encoder.layer) - 1
    tokens = [token for some in places for token in some]
    for head in range(4):
        found, _ = steps.salience(exact, pixels, ids, last, head)
        assert not found[tokens].any()
    assert steps.salience(exact, pixels, ids, last - 1, 3)[0][tokens].any()
