from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pnp_ovss.engine import ExecutionError, Segmenter, Settings
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import SALIENCE, VISION, VISION_TOKENS
from pnp_ovss.engine.model.signature import Signature, Tensor
from pnp_ovss.engine.runners.buckets import Blocks, plan, split
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.engine.settings import CHOICES

from tests import thresholds
from tests.conftest import Exported
from tests.engine.runners.stand_ins import feeds_of

BATCHES, TOKENS, KEPT = (1, 4, 16), (16, 32, 64), (57, 112, 222, 442)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True).map(sorted)


@given(rows=st.integers(1, 300), sizes=SIZES)
def test_every_row_is_in_one_bucket_and_only_the_last_is_padded(
    rows: int, sizes: list[int]
) -> None:
    chosen = split(rows, sizes)
    assert set(chosen) <= set(sizes)
    assert sum(chosen[:-1]) < rows <= sum(chosen)
    padding = sum(chosen) - rows
    assert padding <= max(chosen[-1] / 4, sizes[0] - 1)


@given(rows=st.integers(1, 300), sizes=SIZES)
def test_rows_computed_are_at_most_four_thirds_of_those_asked_for(
    rows: int, sizes: list[int]
) -> None:
    assert sum(split(rows, sorted({1, *sizes}))) <= rows * 4 / 3


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        (1, [1]),
        (2, [1, 1]),
        (3, [4]),
        (5, [4, 1]),
        (11, [4, 4, 4]),
        (12, [16]),
        (17, [16, 1]),
        (32, [16, 16]),
    ],
)
def test_the_buckets_of_a_batch(rows: int, chosen: list[int]) -> None:
    assert split(rows, BATCHES) == chosen


@given(batch=st.integers(1, 60), tokens=st.integers(1, 64), shared=st.booleans())
@example(batch=1, tokens=64, shared=True)
def test_the_plan_of_a_call(batch: int, tokens: int, shared: bool) -> None:
    profiles = builds.profiles(SALIENCE, BATCHES, TOKENS)
    images = 1 if shared else batch
    parts = plan({"batch": batch, "tokens": tokens, "images": images}, profiles)
    assert [row for part in parts for row in range(batch)[part.rows]] == list(range(batch))
    for part in parts:
        profile = profiles[part.profile]
        assert profile["batch"] >= part.rows.stop - part.rows.start
        assert profile["tokens"] == min(count for count in TOKENS if count >= tokens)
        assert profile["images"] == (1 if images == 1 else profile["batch"])


@given(batch=st.integers(1, 60), kept=st.integers(1, 442))
@example(batch=1, kept=1)  # nothing but [CLS]
def test_the_plan_of_a_call_of_some_tokens(batch: int, kept: int) -> None:
    profiles = builds.profiles(VISION_TOKENS, BATCHES, TOKENS, KEPT)
    parts = plan({"batch": batch, "kept": kept}, profiles)
    assert [row for part in parts for row in range(batch)[part.rows]] == list(range(batch))
    longer = min(count for count in KEPT if count >= kept)
    assert {profiles[part.profile]["kept"] for part in parts} == {longer}


def test_a_block_serves_all_that_it_holds() -> None:
    blocks = Blocks(np)
    large = blocks.take("a", 100)
    assert blocks.take("a", 40) is large
    assert not np.shares_memory(blocks.take("b", 40), large)
    larger = blocks.take("a", 101)
    assert larger.nbytes == 101
    assert blocks.take("a", 100) is large  # what was handed out stays where it is


def test_arrays_of_a_block() -> None:
    blocks = Blocks(np)
    tensor = Tensor(np.dtype(np.int64), ("batch", 3))
    large, small = (blocks.array("ids", tensor, {"batch": batch}) for batch in (4, 2))
    assert (small.shape, small.dtype) == ((2, 3), np.int64)
    assert small.ctypes.data == large.ctypes.data


@pytest.mark.parametrize(
    "change",
    [
        {"input_ids": np.zeros((3, 9), np.int64)},
        {"attention_mask": np.zeros((2, 8), np.int64)},
        {"patch_keep": np.zeros((2, 35), np.float32)},
        {"patch_keep": np.zeros((3, 36), np.float32)},
    ],
    ids=["batch", "tokens", "fixed", "images"],
)
def test_inputs_that_do_not_fit_together(change: dict[str, np.ndarray]) -> None:
    number, whole = np.dtype(np.float32), np.dtype(np.int64)
    signature = Signature(
        {
            "patch_keep": Tensor(number, ("images", 36)),
            "input_ids": Tensor(whole, ("batch", "tokens")),
            "attention_mask": Tensor(whole, ("batch", "tokens")),
        },
        {},
    )
    feeds = {
        "patch_keep": np.zeros((2, 36), np.float32),
        "input_ids": np.zeros((2, 9), np.int64),
        "attention_mask": np.zeros((2, 9), np.int64),
    }
    assert signature.sizes(feeds) == {"images": 2, "batch": 2, "tokens": 9}
    with pytest.raises(ExecutionError, match=r"do not fit together.*input_ids \(\d, 9\)"):
        signature.sizes(feeds | change)


@pytest.fixture(scope="module")
def runners(exported: Exported) -> dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]]:
    """Of each graph, a runner that takes it as it is, and one with buckets."""
    return {
        graph: (
            OnnxRuntimeRunner(exported.folder / graph),
            OnnxRuntimeRunner(
                exported.folder / graph,
                profiles=builds.profiles(graph, (1, 4), (8, 16), (10, 19, 37)),
            ),
        )
        for graph in (VISION, VISION_TOKENS, SALIENCE)
    }


SHAPES = {
    VISION: {"pixel_values": ("batch", 3, 96, 96)},
    VISION_TOKENS: {"pixel_values": ("batch", 3, 96, 96), "kept": ("batch", "kept")},
    SALIENCE: {
        "image_embeds": ("images", 37, 96),
        "input_ids": ("batch", "tokens"),
        "attention_mask": ("batch", "tokens"),
        "patch_keep": ("images", 36),
    },
}
VOCABULARY = 30524


def assert_close(
    found: dict[str, np.ndarray],
    wanted: dict[str, np.ndarray],
    tolerance: float = thresholds.PADDING,
) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        assert found[name].flags.c_contiguous
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance * np.abs(value).max())


@settings(max_examples=25)
@given(
    graph=st.sampled_from([VISION, VISION_TOKENS, SALIENCE]),
    batch=st.integers(1, 9),
    tokens=st.integers(2, 20),
    kept=st.integers(1, 37),
    shared=st.booleans(),
    seed=st.integers(0, 99),
)
@example(graph=SALIENCE, batch=5, tokens=17, kept=1, shared=True, seed=0)  # longer than any bucket
@example(graph=VISION_TOKENS, batch=2, tokens=2, kept=1, shared=False, seed=0)  # [CLS] alone
def test_padding_changes_nothing(
    runners: dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]],
    graph: str,
    batch: int,
    tokens: int,
    kept: int,
    shared: bool,
    seed: int,
) -> None:
    """Whatever an earlier call left in the arrays of a bucket."""
    plain, bucketed = runners[graph]
    sizes = {"batch": batch, "tokens": tokens, "kept": kept, "images": 1 if shared else batch}
    feeds = feeds_of(np.random.default_rng(seed), SHAPES[graph], sizes, VOCABULARY)
    assert_close(bucketed.run(feeds), plain.run(feeds))


def test_some_outputs_only(
    runners: dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]],
) -> None:
    plain, bucketed = runners[SALIENCE]
    sizes = {"batch": 5, "tokens": 9, "images": 5}
    feeds = feeds_of(np.random.default_rng(0), SHAPES[SALIENCE], sizes, VOCABULARY)
    found = bucketed.run(feeds, ["itm_logits"])
    assert found.keys() == {"itm_logits"}
    assert_close(found, plain.run(feeds, ["itm_logits"]))


def test_results_outlive_the_next_run(
    runners: dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]],
) -> None:
    _, bucketed = runners[VISION]
    first, second = (
        feeds_of(np.random.default_rng(seed), SHAPES[VISION], {"batch": 4}, VOCABULARY)
        for seed in (0, 1)
    )
    found = bucketed.run(first)["image_embeds"]
    kept = found.copy()
    bucketed.run(second)
    np.testing.assert_array_equal(found, kept)


def test_threads_share_buckets(
    runners: dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]],
) -> None:
    plain, bucketed = runners[VISION]
    calls = [
        feeds_of(np.random.default_rng(seed), SHAPES[VISION], {"batch": 1 + seed % 5}, VOCABULARY)
        for seed in range(40)
    ]
    with ThreadPoolExecutor(4) as threads:
        for found, feeds in zip(threads.map(bucketed.run, calls), calls, strict=True):
            assert_close(found, plain.run(feeds))


@pytest.mark.parametrize("drop_mode", CHOICES["drop_mode"])
def test_labels_do_not_depend_on_padding(
    exported: Exported,
    segmenter: Segmenter,
    runners: dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]],
    picture: Callable[..., Image.Image],
    drop_mode: str,
) -> None:
    """Of pictures with one caption and with several, from the picture to its labels."""
    network = dataclasses.replace(
        segmenter._network,
        vision=runners[VISION][1],
        vision_tokens=runners[VISION_TOKENS][1],
        salience=runners[SALIENCE][1],
    )
    padded = Segmenter(segmenter.model, network)
    chosen = Settings.preset("paper", drop_mode=drop_mode)
    names = ["cat", "potted plant", "sofa", "dog", "traffic light", "tree"]
    pairs = [(picture(seed), names[: 1 + seed % len(names)]) for seed in range(7)]
    for found, wanted in zip(
        padded.segment_batch(pairs, settings=chosen),
        segmenter.segment_batch(pairs, settings=chosen),
        strict=True,
    ):
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_allclose(found.match, wanted.match, rtol=0, atol=thresholds.MATCH)
