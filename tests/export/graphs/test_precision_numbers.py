"""Mixed precision: what the graphs compute, emulated (see `benchmarks/measures/emulation.py`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from benchmarks.measures.emulation import emulate, open_emulated
from benchmarks.measures.precision import Row, compare, engine
from pnp_ovss.engine.evaluation.datasets import DATASETS
from pnp_ovss.engine.inputs.images import model_input
from pnp_ovss.engine.methods.pnp_ovss import Graphs
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.precision import Precision
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.export.graphs.precision import LOW, convert
from tests import thresholds
from tests.conftest import Exported

SCENES = 8
rng = np.random.default_rng


def pixels(side: int, value: int, at: Any = ..., other: int = 0) -> np.ndarray:
    picture = np.full((side, side, 3), other, np.uint8)
    picture[at] = value
    return picture


def checkers(side: int, size: int) -> np.ndarray:
    y, x = np.mgrid[:side, :side] // size
    return np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)


PICTURES: dict[str, Callable[[int], np.ndarray]] = {
    "black": lambda side: pixels(side, 0),
    "white": lambda side: pixels(side, 255),
    "red": lambda side: pixels(side, 255, np.s_[..., 0]),
    "yellow": lambda side: pixels(side, 255, np.s_[..., :2]),
    "one bright pixel": lambda side: pixels(side, 255, (side // 2, 7)),
    "one dark pixel": lambda side: pixels(side, 0, (side // 2, 7), other=255),
    "half": lambda side: pixels(side, 255, np.s_[: side // 2]),
    "checkers of pixels": lambda side: checkers(side, 1),
    "checkers of patches": lambda side: checkers(side, 16),
    "noise of black and white": lambda side: 255 * rng(0).integers(0, 2, (side, side, 3), np.uint8),
    "noise": lambda side: rng(1).integers(0, 256, (side, side, 3), np.uint8),
}


@pytest.fixture(scope="module")
def models(exported: Exported) -> dict[str, ModelFolder]:
    """Random weights and captions of up to 512 tokens; trained ones, and up to 64."""
    return {"random": open_model(exported.folder), "demo": open_model("demo")}


@pytest.fixture(scope="module")
def emulations(
    models: dict[str, ModelFolder], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, Precision], Graphs]:
    folder = tmp_path_factory.mktemp("emulated")
    return {
        (name, precision): open_emulated(model, precision, folder / name)
        for name, model in models.items()
        for precision in get_args(Precision)
    }


def check(
    graphs: Graphs, embeds: np.ndarray, ids: np.ndarray, real: int, keep: np.ndarray
) -> dict[str, np.ndarray]:
    """Outputs for one picture [1, 1 + P, D] and captions [N, T], of which `real` are no padding.

    Each caption has its patches that are kept [N, P].
    """
    mask = np.tile((np.arange(ids.shape[1]) < real).astype(np.int64), (len(ids), 1))
    feeds = {"image_embeds": np.repeat(embeds, len(ids), axis=0)}
    feeds |= {"input_ids": ids, "attention_mask": mask, "patch_keep": keep.astype(np.float32)}
    out = graphs.runners.run("salience", feeds)
    assert np.isfinite(embeds).all()
    assert np.isfinite(out["itm_logits"]).all()
    assert np.isfinite(out["salience"]).all()
    assert (out["salience"] >= 0).all()
    assert not out["salience"][:, real:].any()
    return out


BLANK = "all blank"
CAPTIONS = [
    *((picture, "short") for picture in (*PICTURES, BLANK)),
    *((picture, "longest") for picture in ("noise", BLANK)),
    *(
        pytest.param(picture, "longest", marks=pytest.mark.slow)
        for picture in PICTURES
        if picture != "noise"
    ),
]


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("name", ["random", "demo"])
@pytest.mark.parametrize(("picture", "captions"), CAPTIONS)
def test_extreme_input_gives_finite_output(
    emulations, picture: str, captions: str, name: str, precision: Precision
):
    graphs = emulations[name, precision]
    preprocess, text = graphs.manifest.preprocess, graphs.manifest.text
    patches = preprocess.patches
    image = np.zeros((3, *preprocess.sides), np.float32)  # as where every patch is dropped
    if picture in PICTURES:
        image = input_of(graphs, picture)
    embeds = graphs.embed(image[None])
    longest = text.context
    some = rng(2).integers(0, text.first_id + 1, longest)
    keep = np.stack([np.ones(patches), np.zeros(patches), np.arange(patches) == 3])
    lengths = {"short": ((1, 1), (6, 6)), "longest": ((longest, longest), (longest, 2))}
    for length, real in lengths[captions]:
        ids = np.stack([some[:length], np.full(length, some[0])])
        check(graphs, embeds, np.repeat(ids, len(keep), axis=0), real, np.tile(keep, (2, 1)))


def input_of(graphs: Graphs, picture: str) -> np.ndarray:
    preprocess = graphs.manifest.preprocess
    return model_input(Image.fromarray(PICTURES[picture](preprocess.sides[0])), preprocess)


@st.composite
def inputs(draw: st.DrawFn, side: int, longest: int, vocabulary: int, patches: int):
    """Any picture of blocks, any caption with any padding, any patches kept."""
    block = draw(st.sampled_from([1, 8, 16, side]))
    blocks = draw(arrays(np.uint8, (-(-side // block),) * 2 + (3,), fill=st.integers(0, 255)))
    picture = np.kron(blocks, np.ones((block, block, 1), np.uint8))[:side, :side]
    length = draw(st.integers(1, longest))
    ids = rng(draw(st.integers(0, 2**32))).integers(0, vocabulary, length)
    return picture, ids, draw(st.integers(1, length)), draw(arrays(bool, patches))


@pytest.mark.parametrize("precision", LOW)
@given(data=st.data())
def test_any_input_gives_finite_output(emulations, precision: Precision, data: st.DataObject):
    graphs = emulations["random", precision]
    preprocess, text = graphs.manifest.preprocess, graphs.manifest.text
    shape = (preprocess.sides[0], text.context, text.first_id)
    picture, ids, real, keep = data.draw(inputs(*shape, preprocess.patches))
    embeds = graphs.embed(model_input(Image.fromarray(picture), preprocess)[None])
    check(graphs, embeds, ids[None], real, keep[None])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    """The engine's own figures, on a few scenes."""
    samples = [DATASETS["stickers"].sample(index) for index in range(SCENES)]
    looks = engine(tmp_path_factory.mktemp("engine"))
    return {row.precision: row for row in compare("engine", looks, samples)}


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.slow
def test_no_further_off_than_eager_pytorch(rows: dict[str, Row], precision: Precision):
    ours, eager = rows[precision], thresholds.EAGER[precision]
    assert 0 < np.mean(ours.salience) < np.mean(eager.salience)
    assert np.mean(ours.match) < np.mean(eager.match)
    assert np.median(ours.labels) < np.mean(eager.labels)
    assert np.max(ours.labels) < np.max(eager.labels)


@pytest.mark.parametrize("precision", LOW)
def test_what_is_recorded_is_not_shown_to_be_further_off(precision: Precision):
    """Of labels, within two standard errors: whole things change, and in few scenes."""
    ours, eager = thresholds.ENGINE[precision], thresholds.EAGER[precision]
    assert len(ours.labels) == len(eager.labels) >= 200
    assert np.mean(ours.salience) < np.mean(eager.salience)
    assert np.mean(ours.match) < np.mean(eager.match)
    whole = [np.mean(np.array(row.labels) > 0.01) for row in (ours, eager)]
    assert whole[0] <= whole[1]
    more = np.subtract(ours.labels, eager.labels)
    assert more.mean() < 2 * more.std() / np.sqrt(len(more))


def emulated(model: ir.Model, precision: Precision, folder: Path) -> OnnxRuntimeRunner:
    path = folder / f"{precision}.onnx"
    ir.save(emulate(convert(model, precision)), path, external_data=f"{precision}.onnx_data")
    return OnnxRuntimeRunner(path)


def scaled(path: Path, weight: str, factor: float) -> ir.Model:
    """A graph with one of its weights multiplied."""
    model = ir.load(path)
    value = model.graph.initializers[weight]
    assert value.const_value
    value.const_value = ir.tensor(value.const_value.numpy() * np.float32(factor), name=weight)
    value.dtype = value.const_value.dtype
    return model


@pytest.mark.parametrize(("precision", "finite"), [("fp16", False), ("bf16", True)])
def test_an_overflow_is_seen(
    models, emulations, precision: Precision, finite: bool, tmp_path: Path
):
    """Weights that float16 holds, and products that it does not."""
    model = models["random"]
    name = "vision_model.encoder.layers.0.mlp.fc1.weight.transposed"  # largest: 0.4
    vision = emulated(scaled(model.graph_path("vision"), name, 2.0**17), precision, tmp_path)
    image = input_of(emulations["random", "fp32"], "noise")
    embeds = vision.run({"pixel_values": image[None]})["image_embeds"]
    assert np.isfinite(embeds).all() == finite


def salience_feeds(graphs: Graphs, picture: str) -> dict[str, np.ndarray]:
    patches = graphs.manifest.preprocess.patches
    ids = rng(3).integers(0, graphs.manifest.text.first_id + 1, (1, 12))
    return {
        "image_embeds": graphs.embed(input_of(graphs, picture)[None]),
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "patch_keep": np.ones((1, patches), np.float32),
    }


@pytest.mark.parametrize("name", ["random", "demo"])
@pytest.mark.parametrize("exponent", [-8, 8])
def test_small_and_large_gradients_are_as_exact(
    models, emulations, name: str, exponent: int, tmp_path: Path
):
    """Salience is linear in the ITM head: float16 must neither lose it nor overflow."""
    feeds = salience_feeds(emulations[name, "fp32"], "noise")
    wanted, plain = (
        emulations[name, precision].runners.run("salience", feeds)["salience"]
        for precision in ("fp32", "fp16")
    )
    head = scaled(models[name].graph_path("salience"), "itm_head.weight.transposed", 2.0**exponent)
    found = emulated(head, "fp16", tmp_path).run(feeds)["salience"] / 2.0**exponent

    def error(value: np.ndarray) -> float:
        return float(np.linalg.norm(value - wanted) / np.linalg.norm(wanted))

    assert error(found) < thresholds.GRADIENT_RANGE * error(plain)
