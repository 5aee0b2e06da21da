"""Builds really made, by TensorRT-RTX: it needs no GPU for that."""

from __future__ import annotations

import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import onnx.parser
import pytest

from pnp_ovss.engine import (
    BackendError,
    ExecutionError,
    InputError,
    ModelError,
    OutputError,
    memory,
)
from pnp_ovss.engine.device import CPU, open_device, usable_devices
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.builds import Build
from pnp_ovss.engine.model.folder import ModelFolder, open_model, record_of
from pnp_ovss.engine.runners import tensorrt_api
from pnp_ovss.engine.runners.tensorrt_api import TensorRT
from pnp_ovss.export.build import tensorrt
from tests.conftest import IMAGE_SIZE, Exported
from tests.conftest import VISION as ENCODER
from tests.engine.model.test_folder import edit_manifest

pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")

ARCHITECTURES = ("sm_86", "sm_89", "sm_120")
Values = dict[str, tuple[str, tuple[int, ...]]]
"""Type and shape of each input and output."""


class Whole(NamedTuple):
    """What was built once, for the tests that only look at it."""

    model: ModelFolder
    builds: list[Build]
    said: list[str]


@pytest.fixture
def model(model_copy: Path) -> ModelFolder:
    return open_model(model_copy)


@pytest.fixture(scope="module")
def whole(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The builds of a model for three architectures, and what the library said."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    model = open_model(shutil.copytree(exported.folder, folder))
    with listening() as said:
        built = build(model, batches=[1, 2], drop_mode="tokens", architectures=ARCHITECTURES)
    return Whole(model, built, said)


def build(model: ModelFolder, **changes: Any) -> list[Build]:
    """The smallest builds, unless there is a change."""
    options: dict[str, Any] = {
        "target": "tensorrt-rtx",
        "precision": "fp16",
        "batches": [1],
        "tokens": [8],
        "architectures": ["sm_86"],
    }
    return tensorrt.build(model, **options | changes)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Everything that TensorRT-RTX logs."""
    said: list[str] = []
    kind = type(tensorrt_api.load("tensorrt-rtx").logger)
    log, kind.log = kind.log, lambda self, severity, message: said.append(message)
    try:
        yield said
    finally:
        kind.log = log


def descriptions(said: list[str]) -> list[str]:
    """How the library describes the engines that it has built."""
    return [text for text in said if text.startswith("Engine Layer Information")]


def profiles_of(description: str, names: set[str]) -> list[Values]:
    """The inputs and outputs of an engine, by profile, from its description."""
    found: dict[int, Values] = {}
    for name, profile, kind, shape in re.findall(
        r"(\w+)(?: \[profile (\d+)\])? \((\w+)\[([\d,]+)\]\)", description
    ):
        if name in names:
            sizes = tuple(int(size) for size in shape.split(","))
            found.setdefault(int(profile or 0), {})[name] = (kind, sizes)
    return [found[index] for index in range(len(found))]


def vision(batch: int) -> Values:
    tokens = 1 + (IMAGE_SIZE // 16) ** 2
    return {
        "pixel_values": ("Float", (batch, 3, IMAGE_SIZE, IMAGE_SIZE)),
        "image_embeds": ("Float", (batch, tokens, int(str(ENCODER["hidden_size"])))),
    }


def salience(images: int, batch: int, tokens: int) -> Values:
    patches = (IMAGE_SIZE // 16) ** 2
    return {
        "image_embeds": vision(images)["image_embeds"],
        "input_ids": ("Int64", (batch, tokens)),
        "attention_mask": ("Int64", (batch, tokens)),
        "patch_keep": ("Float", (images, patches)),
        "itm_logits": ("Float", (batch, 2)),
        "salience": ("Float", (batch, tokens, patches)),
    }


def vision_tokens(batch: int, kept: int) -> Values:
    return {
        "pixel_values": vision(batch)["pixel_values"],
        "kept": ("Int64", (batch, kept)),
        "image_embeds": ("Float", (batch, kept, int(str(ENCODER["hidden_size"])))),
    }


WANTED = {
    "vision": [vision(1), vision(2)],
    "salience": [salience(1, 1, 8), salience(1, 2, 8), salience(2, 2, 8)],
    "vision_tokens": [vision_tokens(batch, kept) for batch in (1, 2) for kept in (6, 10, 19, 37)],
}


@pytest.mark.parametrize("graph", WANTED)
@pytest.mark.slow
def test_builds_have_the_inputs_outputs_and_profiles_asked_for(whole: Whole, graph: str) -> None:
    described = descriptions(whole.said)[list(WANTED).index(graph)]
    assert profiles_of(described, set(WANTED[graph][0])) == WANTED[graph]


def test_builds_are_for_the_architectures_asked_for(whole: Whole) -> None:
    assert "Number of target compute capabilities: 3" in whole.said
    assert {tuple(one.record.recipe.architectures) for one in whole.builds} == {ARCHITECTURES}


def test_the_profiles_of_a_record_are_those_of_the_build(whole: Whole) -> None:
    """A runner takes from the record which profile has which shape."""
    encoder, branch, of_tokens = (one.record.recipe.profiles for one in whole.builds)
    assert [vision(**one) for one in encoder] == WANTED["vision"]
    assert [salience(**one) for one in branch] == WANTED["salience"]
    assert [vision_tokens(**one) for one in of_tokens] == WANTED["vision_tokens"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_builds_are_found_on_each_architecture(whole: Whole, architecture: str) -> None:
    for graph, built in zip(WANTED, whole.builds, strict=True):
        found = builds.find(
            whole.model,
            graph,
            target="tensorrt-rtx",
            architecture=lambda: architecture,
            version=lambda: tensorrt_api.load("tensorrt-rtx").version,
        )
        assert found == (built.path, built.record.recipe)


@pytest.mark.slow
def test_every_precision_has_the_same_inputs_and_outputs(model: ModelFolder) -> None:
    """And low ones have smaller weights."""
    sizes: dict[str, int] = {}
    for precision in ("fp32", "bf16"):
        with listening() as said:
            built = build(model, precision=precision, drop_mode="tokens")
        of_tokens = [vision_tokens(1, kept) for kept in (6, 10, 19, 37)]
        for description, profiles in zip(
            descriptions(said), ([vision(1)], [salience(1, 1, 8)], of_tokens), strict=True
        ):
            assert profiles_of(description, set(profiles[0])) == profiles
        sizes[precision] = sum(one.record.file.size for one in built)
    assert sizes["bf16"] < sizes["fp32"]
    assert len(builds.recorded(model)) == 6


def test_graphs_that_are_named_are_built_and_no_others(model: ModelFolder) -> None:
    (built,) = build(model, drop_mode="pixels", graphs=["vision_tokens"])
    assert built.record.recipe.graph == "vision_tokens"


@pytest.mark.parametrize("options", [{"drop_mode": "tokens"}, {"graphs": ["vision_tokens"]}])
def test_a_model_of_an_earlier_version(model: ModelFolder, options: dict[str, Any]) -> None:
    """The first model folders had no such graph, and no file of it."""
    del model.manifest.files["onnx/vision_tokens.onnx"]
    with pytest.raises(ModelError, match="has no graph 'vision_tokens'") as caught:
        build(model, **options)
    assert "export it again" in caught.value.cure
    assert builds.recorded(model) == []


def test_a_graph_that_cannot_be_read(model: ModelFolder) -> None:
    """The error says what the parser said."""
    path = model.graph_path("vision")
    graph = onnx.load(path)
    graph.graph.node[-1].op_type = "Normalization"
    onnx.save(graph, path)
    with pytest.raises(ExecutionError, match="Normalization") as caught:
        build(model, precision="fp32")
    assert str(path) in caught.value.cause
    assert builds.recorded(model) == []


def test_a_graph_that_cannot_be_built(model: ModelFolder) -> None:
    """Turing has no matrix product in fp32."""
    with pytest.raises(ExecutionError, match="FP32 GEMM is not supported") as caught:
        build(model, precision="fp32", architectures=["sm_75"])
    assert "CUDA driver" not in caught.value.cause  # which is missing here, and no matter
    assert "--precision" in caught.value.cure
    assert [path.suffix for path in (model.path / "builds").iterdir()] == [".lock"]


def test_a_build_that_runs_out_of_memory_says_how_much_there_is(model: ModelFolder) -> None:
    """Of weights of 400 MiB, in a process that may have 600 MiB more than it has."""
    rows, columns = 3 * IMAGE_SIZE**2, 3800
    with (model.path / "onnx" / "zeros").open("wb") as file:
        file.truncate(4 * rows * columns)
    large = onnx.parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        large (float[batch, 3, {IMAGE_SIZE}, {IMAGE_SIZE}] pixel_values)
            => (float[batch, {columns}] image_embeds)
        <float[{rows}, {columns}] weight = ["location": "zeros"]>
        {{
            flat = Flatten(pixel_values)
            image_embeds = MatMul(flat, weight)
        }}
        """
    )
    onnx.save(large, model.graph_path("vision"))
    record = msgspec.to_builtins(record_of(model.graph_path("vision")))
    name = model.graph("vision").file
    edit_manifest(model.path, lambda manifest: manifest["files"].update({name: record}))
    code = f"""
import resource
from pnp_ovss.engine.cli import main
from pnp_ovss.engine.runners import tensorrt_api
from pnp_ovss.export.build import tensorrt
tensorrt_api.load("tensorrt-rtx")
used = next(line for line in open("/proc/self/status") if line.startswith("VmSize"))
limit = int(used.split()[1]) * 2**10 + 600 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
words = "--target tensorrt-rtx --precision fp32 --batch 1 --compute-capability 8.6".split()
raise SystemExit(main(["build", {str(model.path)!r}, *words]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    cause, cure = done.stderr.splitlines()[-2:]
    assert "cannot build vision (memory" in cause
    assert re.search(r"memory that is left: \d+", cause)
    assert "if memory ran out" in cure
    assert builds.recorded(model) == []


def test_a_machine_that_has_too_little_memory(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused, as the system would kill the process without a word."""
    monkeypatch.setattr(memory, "memory_left", lambda: 1000000)
    monkeypatch.setattr(memory, "_SMALL", 0)
    with pytest.raises(InputError, match="building vision needs about"):
        build(model)
    assert builds.recorded(model) == []


def test_a_disk_that_is_full(model: ModelFolder) -> None:
    """Files may have 1 MB here, and no build is as small."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, before[1]))
    try:
        with pytest.raises(OutputError, match="File too large") as caught:
            build(model, precision="fp32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "free some space" in caught.value.cure
    assert builds.recorded(model) == []


def test_ctrl_c_stops_the_library(model: ModelFolder) -> None:
    """It is heard while the library works, and does not wait until it has done."""
    interrupt = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    with listening() as said, pytest.raises(KeyboardInterrupt):
        build(model, batches=range(1, 9), say=lambda _: interrupt.start())
    assert any("BuildCanceled" in message for message in said)


def test_a_thread_may_build(model: ModelFolder) -> None:
    """Only the main thread hears Ctrl-C. (What fails, fails sooner than a build is made.)"""
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(build, model, precision="fp32", architectures=["sm_75"])
    with pytest.raises(ExecutionError, match="FP32 GEMM"):
        done.result()


def test_architectures_that_it_cannot_build_for(model: ModelFolder) -> None:
    with pytest.raises(BackendError, match=r"builds here for sm_75, .*, not for sm_90\n") as caught:
        build(model, architectures=["sm_89", "sm_90"])
    assert "--compute-capability" in caught.value.cure


def test_no_gpu_and_none_named(model: ModelFolder) -> None:
    if usable_devices()[0].index is not None:
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError, match="finds no GPU to build for") as caught:
        build(model, architectures=[])
    assert "--compute-capability" in caught.value.cure


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
class TestTensorRT:
    """What TensorRT does otherwise, by the functions that TensorRT-RTX has as well."""

    @pytest.fixture(autouse=True)
    def at_hand(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A GPU, TensorRT and an empty cache."""
        api = replace(tensorrt_api.load("tensorrt-rtx"), target="tensorrt")
        gpu = replace(CPU, name="cuda:0", architecture="sm_86")
        monkeypatch.setattr(tensorrt_api, "load", lambda _: api)
        monkeypatch.setattr(tensorrt, "open_device", lambda _: gpu)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def test_it_builds_for_the_gpu_at_hand_alone(self, model: ModelFolder) -> None:
        with pytest.raises(BackendError, match="builds here for sm_86, not for sm_89"):
            build(model, target="tensorrt", architectures=["sm_89"])

    def test_it_keeps_its_timings(
        self, model: ModelFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Each build begins with those of the last one on such a GPU."""
        given: list[bytes] = []
        configure = TensorRT.builder_config

        def configured(self: TensorRT, builder: Any, architectures: Any, timings: bytes) -> Any:
            given.append(timings)
            return configure(self, builder, architectures, timings)

        monkeypatch.setattr(TensorRT, "builder_config", configured)
        for one in build(model, target="tensorrt", architectures=[]):
            assert one.record.recipe.architectures == ["sm_86"]
        (kept,) = (tmp_path / "cache").rglob("*.timings")
        assert "sm_86" in kept.name
        assert given == [b"", kept.read_bytes()]
        assert given[1]


@pytest.mark.gpu
@pytest.mark.parametrize("target", get_args(tensorrt_api.Target))
@pytest.mark.parametrize("graph", WANTED)
def test_a_gpu_finds_in_a_build_what_was_asked_for(
    model: ModelFolder, target: str, graph: str
) -> None:
    try:
        api = tensorrt_api.load(target)
    except BackendError as error:
        pytest.skip(error.cause)
    device = open_device("cuda:0")
    if api.rtx and device.architecture not in api.named_architectures():
        pytest.skip(f"{target} does not build for {device.architecture}")
    options: dict[str, Any] = {"precision": "fp16", "batches": [1, 2], "tokens": [8]}
    tensorrt.build(model, target=target, drop_mode="tokens", **options)
    path, recipe = builds.find(
        model,
        graph,
        target=target,
        architecture=lambda: device.architecture,
        version=lambda: api.version,
    )
    with device.on_stream():
        engine = api.trt.Runtime(api.logger).deserialize_cuda_engine(path.read_bytes())
        assert engine, api.said()
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        assert names == set(WANTED[graph][0])
        assert engine.num_optimization_profiles == len(recipe.profiles)
        for index, values in enumerate(WANTED[graph]):
            for name, (kind, shape) in values.items():
                assert engine.get_tensor_dtype(name).name == {"Float": "FLOAT"}.get(kind, "INT64")
                if engine.get_tensor_mode(name) == api.trt.TensorIOMode.INPUT:
                    least, usual, most = engine.get_tensor_profile_shape(name, index)
                    assert tuple(least) == tuple(usual) == tuple(most) == shape
