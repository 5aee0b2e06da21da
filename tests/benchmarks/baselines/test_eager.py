from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from benchmarks.baselines import eager as baseline
from benchmarks.baselines import tf32
from benchmarks.baselines.eager import PRESETS, EagerSegmenter
from benchmarks.baselines.passes import EagerPasses
from benchmarks.measures.flops import matrix_rate
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


@pytest.fixture
def with_tf32() -> Iterator[None]:
    def allow(convolutions: bool, products: bool) -> None:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products

    before = tf32.allowed()
    allow(True, True)
    yield
    allow(**before)


@pytest.mark.parametrize(
    "make",
    [
        lambda exported, tokenizer: eager(exported, tokenizer, "lean"),
        lambda exported, _: EagerPasses(copy.deepcopy(exported.model), layer=2, head=3),
        lambda *_: matrix_rate(torch.float32, "cpu"),
    ],
    ids=["EagerSegmenter", "EagerPasses", "matrix_rate"],
)
def test_float32_is_float32(
    make: Callable[..., object],
    exported: Exported,
    fast_tokenizer,
    with_tf32,
):
    assert tf32.allowed() == {"convolutions": True, "products": True}
    make(exported, fast_tokenizer)
    assert tf32.allowed() == {"convolutions": False, "products": False}
    assert torch.get_float32_matmul_precision() == "highest"


def test_without_pydensecrf_the_packages_crf_runs(
    exported: Exported, fast_tokenizer, picture, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("pydensecrf")
    model, image = eager(exported, fast_tokenizer, "lean"), picture(2)
    assert baseline.crf_package() == "pydensecrf2"
    wanted = model.segment(image, ["cat", "dog"])
    assert len(np.unique(wanted)) > 1
    for name in ("pydensecrf", "pydensecrf.densecrf"):
        monkeypatch.setitem(sys.modules, name, None)
    assert baseline.crf_package() == "densecrf"
    found = model.segment(image, ["cat", "dog"])
    assert np.mean(found != wanted) <= thresholds.LABELS_OF_STEPS


def test_both_crfs_compute_the_same(picture):
    pytest.importorskip("pydensecrf")
    channels = np.random.default_rng(3).random((3, 40, 51), dtype=np.float32)
    found, wanted = (
        crf(picture(0, 51, 40), channels) for crf in (baseline.package_crf, baseline.dense_crf)
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=thresholds.CRF_MARGINALS)
