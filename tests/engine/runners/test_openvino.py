from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest

from benchmarks.harness.records import RESULTS
from benchmarks.measures import precision
from pnp_ovss.engine import BackendError, ExecutionError, ModelError, Segmenter
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.evaluation.datasets import DATASETS
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.runners import open_runner
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.engine.runners.openvino import OpenVinoRunner
from pnp_ovss.engine.runners.openvino_model import quantize
from tests import thresholds
from tests.conftest import Exported
from tests.engine.runners import stand_ins
from tests.engine.runners.test_buckets import VOCABULARY
from tests.feeds import graph_file, salience_feeds, vision_feeds, vision_tokens_feeds

has_bf16 = pytest.mark.skipif(
    "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this CPU has no bf16 arithmetic",
)
LOW = [pytest.param("bf16", marks=has_bf16), "int8"]
SCENES = 12
SHAPES = [(1, 1, 6), (3, 3, 11), (4, 1, 17), (1, 1, 7)]  # captions, pictures, tokens


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.fixture(scope="module")
def salience(exported: Exported) -> OpenVinoRunner:
    return OpenVinoRunner(graph_file(exported.folder, "salience"))


@pytest.mark.parametrize(("batch", "images", "tokens"), SHAPES)
def test_the_matching_branch_is_that_of_onnx_runtime(
    exported: Exported, salience: OpenVinoRunner, batch: int, images: int, tokens: int
) -> None:
    """Its gradient too, which shares square weights with the way forward."""
    feeds = salience_feeds(batch, images, tokens)
    wanted = OnnxRuntimeRunner(graph_file(exported.folder, "salience")).run(feeds)
    found = salience.run(feeds)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert off(found[name], value) < thresholds.OPENVINO


@pytest.mark.parametrize("batch", [1, 3])
def test_the_image_encoder_is_that_of_onnx_runtime(exported: Exported, batch: int) -> None:
    feeds = vision_feeds(batch)
    wanted = OnnxRuntimeRunner(graph_file(exported.folder, "vision")).run(feeds)["image_embeds"]
    found = OpenVinoRunner(graph_file(exported.folder, "vision")).run(feeds)["image_embeds"]
    assert off(found, wanted) < thresholds.OPENVINO


def test_the_image_encoder_of_some_tokens_is_that_of_onnx_runtime(exported: Exported) -> None:
    runner = OpenVinoRunner(graph_file(exported.folder, "vision_tokens"))
    for batch, kept in ((1, 2), (3, 19), (1, 37)):
        feeds = vision_tokens_feeds(batch, kept)
        wanted = OnnxRuntimeRunner(graph_file(exported.folder, "vision_tokens")).run(feeds)[
            "image_embeds"
        ]
        assert off(runner.run(feeds)["image_embeds"], wanted) < thresholds.OPENVINO


def test_weights_stored_as_float16() -> None:
    """Those of the demo model, under casts."""
    model = open_model("demo")
    pixels = np.random.default_rng(0).normal(size=(1, 3, 256, 256)).astype(np.float32)
    embeds = OnnxRuntimeRunner(model.graph_path("vision")).run({"pixel_values": pixels})[
        "image_embeds"
    ]
    feeds = salience_feeds(2, 1, 8, patches=embeds.shape[1] - 1)
    feeds |= {"image_embeds": embeds, "input_ids": feeds["input_ids"] % 60}
    wanted = OnnxRuntimeRunner(model.graph_path("salience")).run(feeds)
    for name, value in OpenVinoRunner(model.graph_path("salience")).run(feeds).items():
        assert off(value, wanted[name]) < thresholds.OPENVINO


def test_a_graph_of_an_earlier_version() -> None:
    """It transposes square weights itself, which the way forward has as they are."""
    model = open_model(Path(__file__).parents[1] / "model" / "version_1")
    path, patches = model.graph_path("salience"), model.manifest.preprocess.patches
    pixels = vision_feeds(1, side=model.manifest.preprocess.sides[0])
    embeds = OnnxRuntimeRunner(model.graph_path("vision")).run(pixels)["image_embeds"]
    feeds = salience_feeds(3, 1, 9, patches=patches) | {"image_embeds": embeds}
    feeds["input_ids"] %= 16  # of few pieces
    wanted = OnnxRuntimeRunner(path).run(feeds)
    for name, value in OpenVinoRunner(path).run(feeds).items():
        assert off(value, wanted[name]) < thresholds.OPENVINO


@pytest.mark.parametrize("low", LOW)
def test_low_precision(exported: Exported, low: Any) -> None:
    model = open_model(exported.folder)
    wanted = OnnxRuntimeRunner(model.graph_path("vision")).run(vision_feeds(2))["image_embeds"]
    runner = open_runner(model, "vision", backend="openvino", precision=low)
    found = runner.run(vision_feeds(2))["image_embeds"]
    limit = thresholds.OPENVINO_LOW[low]
    assert limit / 20 < off(found, wanted) < limit

    feeds = salience_feeds(3, 1, 9)
    wanted = OnnxRuntimeRunner(model.graph_path("salience")).run(feeds)["salience"]
    runner = open_runner(model, "salience", backend="openvino", precision=low)
    found = runner.run(feeds)["salience"]
    assert off(found, wanted) < (thresholds.OPENVINO if low == "bf16" else limit)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, precision.Row]]:
    """On sticker scenes: those recorded, and a few measured here."""
    samples = [DATASETS["stickers"].sample(index) for index in range(SCENES)]
    return {
        "recorded": {
            row.precision: row
            for row in precision.read(RESULTS / "precision" / "precision.jsonl")
            if row.engine == "openvino"
        },
        "measured": {
            row.precision: row
            for row in precision.compare("openvino", precision.openvino(), samples)
        },
    }


@has_bf16
@pytest.mark.parametrize("when", ["recorded", "measured"])
@pytest.mark.parametrize("low", ["bf16", "int8"])
def test_no_further_off_than_eager_pytorch_in_bf16(
    rows: dict[str, dict[str, precision.Row]], low: str, when: str
) -> None:
    """Int8 too: what it may be off by is what PyTorch in bf16 is."""
    ours, eager = rows[when][low], thresholds.EAGER["bf16"]
    assert 0 < np.mean(ours.salience) < np.mean(eager.salience)
    assert np.mean(ours.match) < np.mean(eager.match)
    assert np.median(ours.labels) < np.median(eager.labels)
    assert when == "measured" or np.mean(ours.labels) < np.mean(eager.labels)


@pytest.mark.parametrize(
    ("graph", "inputs_only", "products"),
    [("vision", False, 12), ("vision_tokens", False, 12), ("salience", True, 8)],
)
def test_what_is_quantized(
    exported: Exported, graph: str, inputs_only: bool, products: int
) -> None:
    """Four products a layer of the image encoder; keys and values of four layers of text."""
    model = ov.Core().read_model(graph_file(exported.folder, graph))
    assert quantize(model, inputs_only=inputs_only) == 32  # divides widths of 96 and 128
    rounded = [
        node
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.i8
    ]
    assert len(rounded) == products
    assert all(np.abs(node.get_data()).max() == 127 for node in rounded)


def test_threads_share_a_runner(salience: OpenVinoRunner) -> None:
    cases = [salience_feeds(2, 1, 5 + seed % 3, seed=seed) for seed in range(24)]
    alone = [salience.run(feeds)["salience"].copy() for feeds in cases]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda feeds: salience.run(feeds)["salience"].copy(), cases)
        for found, wanted in zip(together, alone, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_what_is_fed_is_left_as_it_was(salience: OpenVinoRunner) -> None:
    first, second = salience_feeds(2, 1, 6), salience_feeds(2, 1, 6, seed=1)
    kept = {name: value.copy() for name, value in first.items()}
    salience.run(first)
    salience.run({name: value[::-1][::-1] for name, value in second.items()})
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


def test_some_outputs_only(salience: OpenVinoRunner) -> None:
    assert salience.run(salience_feeds(1, 1, 6), ["itm_logits"]).keys() == {"itm_logits"}


def test_the_whole_engine(exported: Exported, segmenter: Segmenter, picture: Any) -> None:
    with Segmenter.load(exported.folder, backend="openvino") as other:
        found = other.segment(picture(), ["cat", "potted plant"])
    wanted = segmenter.segment(picture(), ["cat", "potted plant"])
    np.testing.assert_array_equal(found.labels, wanted.labels)
    assert off(found.class_maps, wanted.class_maps) < thresholds.CLASS_MAPS


def test_a_gpu(exported: Exported) -> None:
    with pytest.raises(BackendError, match="runs on the CPU, and the device is cuda:0") as caught:
        open_runner(
            open_model(exported.folder), "vision", backend="openvino", device=stand_ins.device()
        )
    assert "--device cpu" in caught.value.cure


def test_fp16(exported: Exported) -> None:
    with pytest.raises(BackendError, match="has no fp16") as caught:
        open_runner(open_model(exported.folder), "vision", backend="openvino", precision="fp16")
    assert "take --precision fp32" in caught.value.cure


class Old(ov.Core):
    """A CPU without bf16."""

    def get_property(self, *_: Any, **__: Any) -> Any:
        return ["FP32", "INT8"]


def test_a_cpu_without_bf16(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ov, "Core", Old)
    model = open_model(exported.folder)
    with pytest.raises(BackendError, match="this CPU has no bf16 arithmetic") as caught:
        open_runner(model, "vision", backend="openvino", precision="bf16")
    assert "--precision fp32" in caught.value.cure
    runner = open_runner(model, "vision", backend="openvino", precision="int8")
    assert isinstance(runner, OpenVinoRunner)
    assert "float32" in runner.properties["INFERENCE_PRECISION_HINT"]


class Deaf(ov.Core):
    """A library that does not do as it is told."""

    def compile_model(self, *args: Any, **_: Any) -> Any:
        return super().compile_model(args[0], args[1], {"INFERENCE_PRECISION_HINT": "f32"})


@has_bf16
def test_a_precision_that_did_not_take(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ov, "Core", Deaf)
    with pytest.raises(BackendError, match="was asked for bf16 and runs in f32"):
        OpenVinoRunner(graph_file(exported.folder, "vision"), arithmetic="bf16")


def test_a_damaged_graph(model_copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = graph_file(model_copy, "vision")
    path.write_bytes(b"none")
    with pytest.raises(ModelError, match="OpenVINO cannot load") as caught:
        OpenVinoRunner(path)
    assert "export the model again" in caught.value.cure
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("version", [0, -1, 2**62])
def test_operators_of_an_impossible_version(model_copy: Path, version: int) -> None:
    path = graph_file(model_copy, "vision")
    graph = onnx.load(path, load_external_data=False)
    graph.opset_import[0].version = version
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError, match="its operators are of version"):
        OpenVinoRunner(path)


@pytest.mark.parametrize("number", [VOCABULARY, 10**6, 2**40])
def test_a_token_that_the_model_does_not_have(salience: OpenVinoRunner, number: int) -> None:
    feeds = salience_feeds(2, 1, 6)
    feeds["input_ids"][1, 3] = VOCABULARY - 1
    assert np.isfinite(salience.run(feeds)["salience"]).all()
    feeds["input_ids"][1, 3] = number
    with pytest.raises(ExecutionError, match=f"input_ids has {number}, and the graph knows"):
        salience.run(feeds)


def test_a_run_that_fails(salience: OpenVinoRunner) -> None:
    feeds = salience_feeds(1, 1, 6)
    feeds["image_embeds"] = feeds["image_embeds"][:, :5]
    with pytest.raises(ExecutionError, match="OpenVINO failed: "):
        salience.run(feeds)


def test_a_closed_runner(exported: Exported) -> None:
    runner = OpenVinoRunner(graph_file(exported.folder, "vision"))
    assert runner.device is CPU
    runner.close()
    runner.close()
    with pytest.raises(ExecutionError, match="the model was closed"):
        runner.run(vision_feeds(1))


@pytest.mark.parametrize("arithmetic", ["f32", pytest.param("bf16", marks=has_bf16)])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("closing", ["one.close()", "pass"])
def test_signals_can_be_handled_afterwards(
    exported: Exported, order: tuple[int, int], closing: str, arithmetic: str
) -> None:
    """In a process of its own, which they may kill."""
    files = [graph_file(exported.folder, graph) for graph in ("vision", "salience")]
    code = f"""
import signal, time
from pathlib import Path
from pnp_ovss.engine.runners.openvino import OpenVinoRunner
runners = [
    OpenVinoRunner(Path({str(files[0])!r}), arithmetic={arithmetic!r}),
    OpenVinoRunner(Path({str(files[1])!r})),
]
for index in {order}:
    one, runners[index] = runners[index], None
    {closing}
    del one
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
signal.raise_signal(signal.SIGUSR1)
time.sleep(0.1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_without_the_package(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "pnp_ovss.engine.runners.openvino")
    with pytest.raises(BackendError, match="OpenVINO is not installed") as caught:
        open_runner(open_model(exported.folder), "vision", backend="openvino")
    assert caught.value.cure == "pip install 'pnp-ovss[openvino]'"
