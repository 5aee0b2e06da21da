"""The whole engine on a GPU against the same on the CPU."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pnp_ovss.engine import BackendError, Segmenter, Settings
from pnp_ovss.engine.device import open_device
from pnp_ovss.engine.methods.pnp_ovss import PnpOvss
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.runners.aotinductor import AotInductorRunner
from pnp_ovss.engine.settings import CHOICES
from pnp_ovss.export.build import aotinductor
from tests import thresholds
from tests.conftest import Exported
from tests.engine.test_segmenter import CLASSES

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", params=["onnxruntime", "aotinductor"])
def on_gpu(
    request: pytest.FixtureRequest, exported: Exported, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Segmenter]:
    folder = Path(shutil.copytree(exported.folder, tmp_path_factory.mktemp("gpu") / "model"))
    open_device("cuda")  # without which none of this can be
    try:
        if request.param == "aotinductor":
            model = open_model(folder)
            aotinductor.build(model, precision="fp32", device="cuda", drop_mode="tokens")
        segmenter = Segmenter.load(folder, backend=request.param, device="cuda")
    except BackendError as error:
        pytest.skip(str(error))
    with segmenter:
        yield segmenter


@pytest.mark.parametrize("crf", ["densecrf", "densecrf-cpu", None])
@pytest.mark.parametrize("drop_mode", CHOICES["drop_mode"])
def test_cuda_computes_what_the_cpu_does(on_gpu, segmenter, picture, crf, drop_mode):
    settings = Settings(crf=crf, drop_mode=drop_mode)
    pairs = [(picture(seed, 200 - 9 * seed, 150), CLASSES[seed % 6]) for seed in range(9)]
    assert on_gpu.device == "cuda:0"
    # the same three times: plainly, while CUDA graphs are captured, and replayed
    streams = [on_gpu.stream(pairs, batch_size=4, settings=settings) for _ in range(3)]
    found = [list(stream) for stream in streams]
    for wanted, *each in zip(segmenter.stream(pairs, settings=settings), *found, strict=True):
        for one in each:
            difference = np.abs(one.class_maps - wanted.class_maps).max()
            assert difference <= thresholds.CLASS_MAPS * wanted.class_maps.max()
            np.testing.assert_allclose(one.match, wanted.match, rtol=0, atol=thresholds.MATCH)
            assert (one.labels != wanted.labels).mean() <= thresholds.LABELS
    assert isinstance(on_gpu.method, PnpOvss)
    loaded = on_gpu.method.graphs.runners.loaded
    for runner in (loaded["vision"], loaded["salience"]):
        if isinstance(runner, AotInductorRunner):  # of tokens as they come, few shapes repeat
            assert any(replayed for _, replayed in runner.captured)
