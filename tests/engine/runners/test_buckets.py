from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pnp_ovss.engine import ExecutionError, Segmenter, Settings
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.methods.pnp_ovss import Graphs, PnpOvss
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.model.signature import Graph, Profile, Signature, Tensor
from pnp_ovss.engine.runners import Runners
from pnp_ovss.engine.runners.buckets import Blocks, Buckets, plan, split
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.engine.settings import CHOICES
from tests import thresholds
from tests.conftest import Exported
from tests.engine.runners.stand_ins import feeds_of

Arrays = dict[str, np.ndarray]
BATCHES, TOKENS, KEPT = (1, 4, 16), (16, 32, 64), (57, 112, 222, 442)
CAPTIONS = Tensor("int64", ("batch", "tokens"))
BRANCH = Graph(
    file="branch.onnx",
    weights="branch.onnx_data",
    inputs={
        "patch_keep": Tensor("float32", ("images", 36)),
        "input_ids": CAPTIONS,
        "attention_mask": CAPTIONS,
    },
    outputs={},
    roles={"batch": "rows", "images": "shared", "tokens": "padded"},
    lengths={"tokens": list(TOKENS)},
)
OF_KEPT = Graph(
    file="kept.onnx",
    weights="kept.onnx_data",
    inputs={"kept": Tensor("int64", ("batch", "kept"))},
    outputs={},
    roles={"batch": "rows", "kept": "padded"},
    lengths={"kept": list(KEPT)},
)
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
    profiles = builds.profiles(BRANCH, BATCHES)
    images = 1 if shared else batch
    parts = plan(BRANCH, {"batch": batch, "tokens": tokens, "images": images}, profiles)
    assert [row for part in parts for row in range(batch)[part.rows]] == list(range(batch))
    for part in parts:
        profile = profiles[part.profile]
        assert profile["batch"] >= part.rows.stop - part.rows.start
        assert profile["tokens"] == min(count for count in TOKENS if count >= tokens)
        assert profile["images"] == (1 if images == 1 else profile["batch"])


@given(batch=st.integers(1, 60), kept=st.integers(1, 442))
@example(batch=1, kept=1)  # nothing but [CLS]
def test_the_plan_of_a_call_of_some_tokens(batch: int, kept: int) -> None:
    profiles = builds.profiles(OF_KEPT, BATCHES)
    parts = plan(OF_KEPT, {"batch": batch, "kept": kept}, profiles)
    assert [row for part in parts for row in range(batch)[part.rows]] == list(range(batch))
    longer = min(count for count in KEPT if count >= kept)
    assert {profiles[part.profile]["kept"] for part in parts} == {longer}


def test_the_plan_of_a_graph_that_has_no_rows() -> None:
    """All of it is one part, in the shape that there is."""
    fixed = Signature(inputs={"names": Tensor("int64", (3, 7))}, outputs={})
    assert plan(fixed, {}, [{}]) == [(slice(None), 0)]


@pytest.mark.parametrize(("tokens", "profile"), [(1, 1), (16, 1), (17, 2), (64, 0)])
def test_the_plan_of_a_graph_that_has_no_rows_but_a_length(tokens: int, profile: int) -> None:
    """It is padded to the smallest length that holds it, whatever the order of the profiles."""
    one = Signature(
        inputs={"names": Tensor("int64", (3, "tokens"))}, outputs={}, roles={"tokens": "padded"}
    )
    profiles = [{"tokens": length} for length in (64, 16, 32)]
    assert plan(one, {"tokens": tokens}, profiles) == [(slice(None), profile)]


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
    tensor = Tensor("int64", ("batch", 3))
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
    feeds = branch_feeds(images=2)
    assert BRANCH.sizes(feeds) == {"images": 2, "batch": 2, "tokens": 9}
    with pytest.raises(ExecutionError, match=r"do not fit together.*input_ids \(\d, 9\)"):
        BRANCH.sizes(feeds | change)


def branch_feeds(*, images: int) -> dict[str, np.ndarray]:
    """Two captions of nine tokens."""
    return {
        "patch_keep": np.zeros((images, 36), np.float32),
        "input_ids": np.zeros((2, 9), np.int64),
        "attention_mask": np.zeros((2, 9), np.int64),
    }


def test_rows_may_share_what_another_dimension_counts() -> None:
    """One for all rows, or one for each, and nothing between; only the roles say so."""
    assert BRANCH.sizes(branch_feeds(images=1)) == {"images": 1, "batch": 2, "tokens": 9}
    assert BRANCH.length({"images": 1, "batch": 2, "tokens": 9}) == 9
    with pytest.raises(ExecutionError, match=r"do not fit together: patch_keep \(3, 36\)"):
        BRANCH.sizes(branch_feeds(images=3))
    free = Signature(inputs=BRANCH.inputs, outputs={})
    assert free.sizes(branch_feeds(images=3)) == {"images": 3, "batch": 2, "tokens": 9}
    assert free.length({"images": 3, "batch": 2, "tokens": 9}) == 0


@pytest.mark.parametrize("shape", [(2,), (2, 9, 1)])
def test_inputs_of_another_rank_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ExecutionError, match=r"do not fit together: kept \(2,"):
        OF_KEPT.sizes({"kept": np.zeros(shape, np.int64)})


@pytest.mark.parametrize("batch", [1, 4, 6])
def test_what_has_no_rows_is_whole_in_every_part(batch: int) -> None:
    signature = Signature(
        inputs={"x": Tensor("float32", ("batch", 2)), "weights": Tensor("float32", (5, 2))},
        outputs={"y": Tensor("float32", ("batch", 5)), "sums": Tensor("float32", (5,))},
        roles={"batch": "rows"},
    )
    ran: list[int] = []

    class Product:
        captured = False

        def __init__(self, index: int, inputs: Arrays, outputs: Arrays) -> None:
            self.index, self.inputs, self.outputs = index, inputs, outputs

        def __call__(self) -> None:
            ran.append(self.index)
            x, weights = self.inputs["x"], self.inputs["weights"]
            self.outputs["y"][...] = x @ weights.T
            self.outputs["sums"][...] = weights.sum(axis=1)

    buckets = Buckets(CPU, signature, [{"batch": 1}, {"batch": 4}], Product)
    random = np.random.default_rng(batch)
    x, weights = (random.integers(0, 9, (rows, 2)).astype(np.float32) for rows in (batch, 5))
    found = buckets.run({"x": x, "weights": weights}, ["y", "sums"])
    assert ran == {1: [0], 4: [1], 6: [1, 0, 0]}[batch]
    np.testing.assert_array_equal(found["y"], x @ weights.T)
    np.testing.assert_array_equal(found["sums"], weights.sum(axis=1))


def test_a_graph_without_rows_is_padded_to_a_length() -> None:
    signature = Signature(
        inputs={"x": Tensor("float32", (2, "length"))},
        outputs={"y": Tensor("float32", (2, "length"))},
        roles={"length": "padded"},
    )

    class Twice:
        captured = False

        def __init__(self, _: int, inputs: Arrays, outputs: Arrays) -> None:
            self.x, self.y = inputs["x"], outputs["y"]

        def __call__(self) -> None:
            np.multiply(self.x, 2, out=self.y)

    buckets = Buckets(CPU, signature, [{"length": 4}, {"length": 8}], Twice)
    for length in (8, 3, 4, 5):
        x = np.random.default_rng(length).random((2, length), np.float32)
        np.testing.assert_array_equal(buckets.run({"x": x}, ["y"])["y"], 2 * x)
    assert [profile for profile, _ in buckets.captured] == [{"length": 8}, {"length": 4}]


@pytest.fixture(scope="module")
def model(exported: Exported) -> ModelFolder:
    return open_model(exported.folder)


def small_profiles(model: ModelFolder, graph: str) -> list[Profile]:
    lengths = {"tokens": (8, 16), "kept": (10, 19, 37)}
    return builds.profiles(model.graph(graph), (1, 4), lengths)


@pytest.fixture(scope="module")
def runners(model: ModelFolder) -> dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]]:
    """Of each graph, a runner that takes it as it is, and one with buckets."""
    return {
        graph: (
            OnnxRuntimeRunner(model.graph_path(graph)),
            OnnxRuntimeRunner(
                model.graph_path(graph),
                profiles=small_profiles(model, graph),
                roles=model.graph(graph).roles,
            ),
        )
        for graph in SHAPES
    }


SHAPES: dict[str, Mapping[str, tuple[int | str, ...]]] = {
    "vision": {"pixel_values": ("batch", 3, 96, 96)},
    "vision_tokens": {"pixel_values": ("batch", 3, 96, 96), "kept": ("batch", "kept")},
    "salience": {
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
    graph=st.sampled_from(list(SHAPES)),
    batch=st.integers(1, 9),
    tokens=st.integers(2, 20),
    kept=st.integers(1, 37),
    shared=st.booleans(),
    seed=st.integers(0, 99),
)
@example(
    graph="salience", batch=5, tokens=17, kept=1, shared=True, seed=0
)  # longer than any bucket
@example(graph="vision_tokens", batch=2, tokens=2, kept=1, shared=False, seed=0)  # [CLS] alone
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
    plain, bucketed = runners["salience"]
    sizes = {"batch": 5, "tokens": 9, "images": 5}
    feeds = feeds_of(np.random.default_rng(0), SHAPES["salience"], sizes, VOCABULARY)
    found = bucketed.run(feeds, ["itm_logits"])
    assert found.keys() == {"itm_logits"}
    assert_close(found, plain.run(feeds, ["itm_logits"]))


def test_results_outlive_the_next_run(
    runners: dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]],
) -> None:
    _, bucketed = runners["vision"]
    first, second = (
        feeds_of(np.random.default_rng(seed), SHAPES["vision"], {"batch": 4}, VOCABULARY)
        for seed in (0, 1)
    )
    found = bucketed.run(first)["image_embeds"]
    kept = found.copy()
    bucketed.run(second)
    np.testing.assert_array_equal(found, kept)


def test_threads_share_buckets(
    runners: dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]],
) -> None:
    plain, bucketed = runners["vision"]
    calls = [
        feeds_of(np.random.default_rng(seed), SHAPES["vision"], {"batch": 1 + seed % 5}, VOCABULARY)
        for seed in range(40)
    ]
    with ThreadPoolExecutor(4) as threads:
        for found, feeds in zip(threads.map(bucketed.run, calls), calls, strict=True):
            assert_close(found, plain.run(feeds))


@pytest.mark.parametrize("drop_mode", CHOICES["drop_mode"])
def test_labels_do_not_depend_on_padding(
    segmenter: Segmenter,
    runners: dict[str, tuple[OnnxRuntimeRunner, OnnxRuntimeRunner]],
    picture: Callable[..., Image.Image],
    drop_mode: str,
) -> None:
    """Of pictures with one caption and with several, from the picture to its labels."""
    bucketed = Runners(lambda graph: runners[graph][1], CPU, list(SHAPES))
    graphs = Graphs(bucketed, Captioner.load(segmenter.model), segmenter.model.manifest)
    padded = Segmenter(segmenter.model, PnpOvss(graphs))
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
