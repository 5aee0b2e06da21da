from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pnp_ovss.engine import BackendError, ExecutionError, InputError
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.builds import Recipe
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.runners import open_runner, tensorrt_api
from pnp_ovss.engine.runners.onnxruntime import OnnxRuntimeRunner
from pnp_ovss.engine.runners.tensorrt import TensorRTRunner
from tests import thresholds
from tests.conftest import Exported
from tests.engine.runners import stand_ins
from tests.engine.runners.stand_ins import Library, feeds_of
from tests.engine.runners.test_buckets import SHAPES, VOCABULARY, assert_close
from tests.feeds import graph_file

BATCHES, LENGTHS = (1, 4), {"tokens": (8, 16), "kept": (10, 19, 37)}
Open = Callable[..., tuple[TensorRTRunner, Library]]


@pytest.fixture
def model(exported: Exported) -> ModelFolder:
    """A model by the name of blip."""
    return replace(open_model(exported.folder), path=Path("blip"))


@pytest.fixture
def opened(
    exported: Exported, model: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Opens a graph with the stand-in of TensorRT-RTX, on the stand-in of a GPU."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    there: list[TensorRTRunner] = []

    def open_(
        graph: str, *, onnx: Path | None = None, **rules: Any
    ) -> tuple[TensorRTRunner, Library]:
        library = Library(recipe(model, graph).profiles, **rules)
        path = stand_ins.engine_file(tmp_path, onnx or graph_file(exported.folder, graph))
        runner = TensorRTRunner(
            stand_ins.api(library), path, recipe(model, graph), stand_ins.device(), model
        )
        there.append(runner)
        return runner, library

    yield open_
    for runner in there:
        runner.close()


def recipe(model: ModelFolder, graph: str) -> Recipe:
    return Recipe(
        target="tensorrt-rtx",
        graph=graph,
        precision="fp16",
        graph_sha256="0" * 64,
        profiles=builds.profiles(model.graph(graph), BATCHES, LENGTHS),
        architectures=["sm_89"],
        version=stand_ins.VERSION,
    )


def calls(graph: str) -> list[dict[str, np.ndarray]]:
    """Every bucket twice and more, and batches that fill none."""
    return [
        feeds_of(
            np.random.default_rng(seed),
            SHAPES[graph],
            {
                "batch": batch,
                "tokens": tokens,
                "kept": 2 * tokens,
                "images": 1 if shared else batch,
            },
            VOCABULARY,
        )
        for seed in range(3)
        for batch, tokens, shared in [(1, 5, True), (4, 8, False), (7, 16, True), (3, 11, False)]
    ]


@pytest.mark.parametrize("graph", ["vision", "vision_tokens", "salience"])
def test_a_build_gives_what_its_graph_does(opened: Open, exported: Exported, graph: str) -> None:
    """Run plainly, while recorded, and replayed."""
    runner, _ = opened(graph)
    plain = OnnxRuntimeRunner(graph_file(exported.folder, graph))
    for feeds in calls(graph):
        assert_close(runner.run(feeds), plain.run(feeds))
    assert len(runner.captured) > 1
    assert all(captured for _, captured in runner.captured)


def test_some_outputs_only(opened: Open, exported: Exported) -> None:
    runner, library = opened("salience")
    feeds = calls("salience")[0]
    found = runner.run(feeds, ["itm_logits"])
    assert_close(
        found, OnnxRuntimeRunner(graph_file(exported.folder, "salience")).run(feeds, ["itm_logits"])
    )
    runner.run(feeds)
    assert len(library.engines[0].contexts) == 1


def test_a_library_that_cannot_be_recorded(opened: Open, exported: Exported) -> None:
    runner, _ = opened("vision", capturable=False)
    plain = OnnxRuntimeRunner(graph_file(exported.folder, "vision"))
    for feeds in calls("vision"):
        assert_close(runner.run(feeds), plain.run(feeds))
    assert not any(captured for _, captured in runner.captured)
    assert runner.device.stream.modes == []


def test_contexts_are_made_when_needed_and_share_the_memory_of_the_largest(opened: Open) -> None:
    runner, library = opened("vision")
    contexts = library.engines[0].contexts
    assert contexts == []
    large, small = (
        feeds_of(np.random.default_rng(0), SHAPES["vision"], {"batch": batch}, VOCABULARY)
        for batch in (4, 1)
    )
    runner.run(large)
    assert [one.profile for one in contexts] == [1]
    runner.run(small)
    assert [one.profile for one in contexts] == [1, 0]
    assert contexts[0].memory[0] == contexts[1].memory[0]
    assert [one.memory[1] for one in contexts] == [4096, 1024]


def test_kernels_are_compiled_once(opened: Open, tmp_path: Path) -> None:
    runner, _ = opened("vision")
    for feeds in calls("vision")[:2]:
        runner.run(feeds)
    runner.close()
    (kept,) = (tmp_path / "cache" / "pnp-ovss" / "kernels").iterdir()
    assert kept.name == "stand-in-sm_89.kernels"
    assert kept.read_text() == "0 1"
    _, library = opened("vision")
    engine = library.engines[0]
    assert engine.configs[0].get_runtime_cache().kernels == ["0", "1"]


def test_a_caption_that_is_too_long(opened: Open) -> None:
    runner, _ = opened("salience")
    sizes = {"batch": 2, "tokens": 17, "images": 2}
    feeds = feeds_of(np.random.default_rng(0), SHAPES["salience"], sizes, VOCABULARY)
    with pytest.raises(InputError, match=r"has 17 tokens.*build takes 16 at most") as caught:
        runner.run(feeds)
    assert caught.value.cure == (
        "pnp-ovss build 'blip' --target tensorrt-rtx --precision fp16 --batch 1,4 --tokens 8,16,32"
    )


def test_a_build_that_fails(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, library = opened("vision")
    refuse = lambda *_: library.complain("out of memory")  # noqa: E731
    monkeypatch.setattr(stand_ins.IExecutionContext, "execute_async_v3", refuse)
    with pytest.raises(ExecutionError, match=r"tensorrt-rtx 1\.0 failed on cuda:0: out of memory"):
        runner.run(calls("vision")[0])


def test_memory_that_runs_out(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, _ = opened("vision")

    def empty(*_: object) -> None:
        raise MemoryError("Out of memory allocating 4,096 bytes")

    monkeypatch.setattr(runner.device.xp, "empty", empty)
    with pytest.raises(ExecutionError, match="Out of memory allocating") as caught:
        runner.run(calls("vision")[0])
    assert "smaller --batch-size" in caught.value.cure


def test_a_closed_build(opened: Open) -> None:
    runner, _ = opened("vision")
    runner.close()
    runner.close()
    with pytest.raises(ExecutionError, match="was closed"):
        runner.run(calls("vision")[0])


def test_a_build_that_the_library_refuses(opened: Open) -> None:
    with pytest.raises(BackendError, match=r"cannot load the build.*bad engine") as caught:
        opened("vision", onnx=Path("no.onnx"))
    assert caught.value.cure == (
        "build it again: pnp-ovss build 'blip' --target tensorrt-rtx --precision fp16 --overwrite"
    )


needs_rtx = pytest.mark.skipif(
    not importlib.util.find_spec("tensorrt_rtx"), reason="needs tensorrt-rtx"
)


@needs_rtx
def test_a_build_that_the_real_library_refuses(model: ModelFolder, tmp_path: Path) -> None:
    """In its own words."""
    path = tmp_path / "no.engine"
    path.write_bytes(bytes(4096))
    api = tensorrt_api.load("tensorrt-rtx")
    with pytest.raises(BackendError, match=f"cannot load the build '{path}' on cuda:0: .*agic"):
        TensorRTRunner(api, path, recipe(model, "vision"), stand_ins.device(), model)


@needs_rtx
@pytest.mark.parametrize(
    "name",
    ["ICudaEngine", "IExecutionContext", "IRuntimeCache", "IRuntimeConfig", "Runtime"],
)
def test_the_stand_in_has_what_the_library_has(name: str) -> None:
    """All that it is asked for, the library can be asked for."""
    real = getattr(tensorrt_api.load("tensorrt-rtx").trt, name)
    asked = {one for one in dir(getattr(stand_ins, name)) if not one.startswith("_")}
    assert asked
    assert asked <= set(dir(real))


@pytest.mark.gpu
@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("graph", ["vision", "vision_tokens", "salience"])
def test_a_build_on_a_gpu(exported: Exported, model_copy: Path, target: str, graph: str) -> None:
    """The real library: plainly, recorded and replayed, against the CPU."""
    try:
        api = tensorrt_api.load(target)
    except BackendError as error:
        pytest.skip(error.cause)
    from pnp_ovss.engine.device import open_device
    from pnp_ovss.export.build.tensorrt import build

    device = open_device("cuda")
    if api.rtx and device.architecture not in api.named_architectures():
        pytest.skip(f"{target} does not build for {device.architecture}")
    model = open_model(model_copy)
    options = {"precision": "fp32", "batches": BATCHES, "drop_mode": "tokens"}
    build(model, target=target, tokens=LENGTHS["tokens"], **options)
    plain = OnnxRuntimeRunner(graph_file(exported.folder, graph))
    with device.on_stream():
        runner = open_runner(model, graph, backend=target, device=device)
        assert isinstance(runner, TensorRTRunner)
        for feeds in calls(graph):
            found = runner.run({name: device.xp.asarray(one) for name, one in feeds.items()})
            assert_close(
                {name: device.to_host(one) for name, one in found.items()},
                plain.run(feeds),
                thresholds.SALIENCE,
            )
        captured = [captured for _, captured in runner.captured]
        runner.close()
    assert all(captured)
