"""Quality in every build: what is broken in the method shows as lost mIoU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.demo_model import recipe
from pnp_ovss.engine import BackendError, Segmenter
from pnp_ovss.engine.evaluation.datasets import DATASETS
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import SIDE
from pnp_ovss.engine.evaluation.evaluate import evaluate
from pnp_ovss.engine.methods.pnp_ovss.graphs import Graphs
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.refine import crf
from pnp_ovss.engine.runners import BACKENDS
from pnp_ovss.export import export
from tests import thresholds

PICTURES = 40


def miou(model: str | Path = "demo", backend: str = "auto", **changes: Any) -> float:
    with Segmenter.load(model, backend=backend, device="cpu") as segmenter:
        settings = replace(open_model("demo").manifest.settings, **changes)
        return evaluate(segmenter, DATASETS["stickers"], settings, images=PICTURES).miou


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_demo_model_segments_sticker_scenes(backend: str):
    try:
        found = miou(backend=backend)
    except BackendError as error:
        if backend == "onnxruntime":
            raise
        pytest.skip(error.cause)
    assert found > thresholds.STICKERS_MIOU


@contextmanager
def another_head(folder: Path, _: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    export(str(recipe.CHECKPOINT), folder, image_size=SIDE, layer=(1,), head=(2,))
    yield {"model": folder}


@contextmanager
def zero_gradient(_: Path, patch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    salience_of = Graphs.salience

    def nothing(*arguments: Any) -> tuple[np.ndarray, np.ndarray]:
        salience, logits = salience_of(*arguments)
        return 0 * salience, logits

    patch.setattr(Graphs, "salience", nothing)
    yield {}


@contextmanager
def no_bilateral_kernel(_: Path, patch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    patch.setitem(crf.KERNELS["bilateral"], "compat", 0)
    yield {}


@pytest.mark.slow
@pytest.mark.parametrize("broken", [another_head, zero_gradient, no_bilateral_kernel])
def test_what_is_broken_falls_below_the_threshold(
    broken: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with broken(tmp_path / "model", monkeypatch) as arguments:
        assert miou(**arguments) < thresholds.STICKERS_MIOU
