"""A real server serves the model: its core, its protocol and its batching, and Python in place of
the backend onnxruntime.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from PIL import Image
from tritonclient.utils import np_to_triton_dtype

from pnp_ovss.engine import Segmenter
from pnp_ovss.engine.cli.demo import samples
from pnp_ovss.engine.inputs.images import load_rgb, resize
from pnp_ovss.engine.methods.pnp_ovss.fused import caption_inputs
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.export.fused import Fused
from pnp_ovss.export.triton.repository import write_repository
from tests import thresholds
from tests.conftest import SAMPLES, Exported
from tests.export.triton.server import MODEL_IN_PYTHON, in_python, needs_server, serving
from tests.test_documents import blocks

pytestmark = [pytest.mark.long, needs_server]

Feeds = dict[str, np.ndarray]
TOKENS, CLASSES = 32, 4  # to which captions are padded, so that requests have equal shapes


@pytest.fixture(scope="module")
def demo() -> Iterator[Segmenter]:
    with Segmenter.load("demo", backend="onnxruntime", device="cpu", threads=1) as loaded:
        yield loaded


@pytest.fixture
def serve(server: Path, packages: Path, tmp_path: Path) -> Any:
    @contextmanager
    def served(model: str | Path, **fixed: Any) -> Iterator[str]:
        opened, repository = open_model(model), tmp_path / "models"
        write_repository(opened, Fused(settings=opened.manifest.settings, **fixed), repository)
        folder = repository / "pnp_ovss"
        config = folder / "config.pbtxt"
        config.write_text(in_python(config.read_text()))
        (folder / "1" / "model.py").write_text(MODEL_IN_PYTHON)
        with serving(server, packages, repository) as address:
            yield address

    return served


def padded(caption: Mapping[str, np.ndarray]) -> Feeds:
    shapes = {"class_tokens": (1, CLASSES, TOKENS)}
    feeds: Feeds = {}
    for name, values in caption.items():
        feeds[name] = np.zeros(shapes.get(name, (1, TOKENS)), values.dtype)
        feeds[name][tuple(map(slice, values.shape))] = values
    return feeds


def tensor(name: str, values: np.ndarray) -> grpc.InferInput:
    made = grpc.InferInput(name, values.shape, np_to_triton_dtype(values.dtype))
    made.set_data_from_numpy(values)
    return made


def answers(client: grpc.InferenceServerClient, requests: list[Feeds]) -> list[Any]:
    """Send requests at once, and return their results in order."""
    done: Queue[tuple[int, Any, Any]] = Queue()
    for index, feeds in enumerate(requests):
        client.async_infer(
            "pnp_ovss",
            [tensor(*one) for one in feeds.items()],
            lambda result, error, index=index: done.put((index, result, error)),
        )
    found = sorted([done.get(timeout=60) for _ in requests], key=lambda one: one[0])
    assert not [error for _, _, error in found if error]
    return [result for _, result, _ in found]


def test_requests_at_once_get_what_the_engine_gives(serve: Any, demo: Segmenter):
    """The server joins them; captions are of several lengths and numbers of classes."""
    pairs = [(load_rgb(path), classes) for path, classes in samples()]
    pairs = [(image, classes[:count]) for image, classes in pairs for count in (1, 2, 3)]
    requests = [
        {
            "pixels": resize(image, demo.model.manifest.preprocess)[None],
            **padded(caption_inputs(demo.model, [classes], demo.settings)),
        }
        for image, classes in pairs
    ]
    with serve("demo") as address, grpc.InferenceServerClient(address) as client:
        results = answers(client, requests)
        statistics: Any = client.get_inference_statistics("pnp_ovss")
    (told,) = statistics.model_stats
    assert told.inference_count == len(pairs) > told.execution_count
    assert max(one.batch_size for one in told.batch_stats) > 1
    for (image, classes), result in zip(pairs, results, strict=True):
        wanted = demo.segment(image, classes)
        maps = result.as_numpy("class_maps")[0, : len(classes)]
        assert not result.as_numpy("class_maps")[0, len(classes) :].any()
        largest = wanted.class_maps.max()
        np.testing.assert_allclose(
            maps, wanted.class_maps, rtol=0, atol=thresholds.SERVED * largest
        )
        np.testing.assert_allclose(
            result.as_numpy("match")[0], wanted.match, rtol=0, atol=thresholds.MATCH
        )
        np.testing.assert_array_equal(demo.refine(image, maps), wanted.labels)


def test_labels_of_a_fixed_size_and_fixed_classes(serve: Any, demo: Segmenter):
    """Pixels are the only input."""
    (path, classes), *_ = samples()
    image = Image.open(path)
    size = (image.height, image.width)
    feeds = {"pixels": resize(image, demo.model.manifest.preprocess)[None]}
    with (
        serve("demo", classes=tuple(classes), output_size=size) as address,
        grpc.InferenceServerClient(address) as client,
    ):
        (result,) = answers(client, [feeds])
    wanted = demo.segment(image, classes, settings=replace(demo.settings, crf=None))
    np.testing.assert_array_equal(result.as_numpy("labels")[0], wanted.labels)


def test_the_client_of_the_document(
    serve: Any, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copyfile(SAMPLES / "beach.jpg", tmp_path / "street.jpg")
    shutil.copytree(exported.folder, tmp_path / "blip-large")
    monkeypatch.chdir(tmp_path)
    (program,) = blocks("export/triton/README.md", "python")
    names: dict[str, Any] = {}
    with serve("blip-large") as address:
        exec(program.replace("localhost:8001", address), names)
    with Segmenter.load("blip-large", device="cpu") as segmenter:
        wanted = segmenter.segment("street.jpg", names["classes"])
    np.testing.assert_array_equal(names["labels"], wanted.labels)
