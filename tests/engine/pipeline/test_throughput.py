"""How well the two stages of `Segmenter.stream` overlap; slow, as the machine must be quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import Segmentation, Segmenter
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import scene
from pnp_ovss.engine.methods.base import Located, Request
from pnp_ovss.engine.pipeline import stages
from pnp_ovss.engine.processors import processors
from pnp_ovss.engine.refine import crf
from pnp_ovss.engine.refine.channels import lines
from tests import thresholds

PICTURES, BATCH = 64, 4
TRIES = 8  # what else the machine does only adds to the time: one quiet try is enough
NAMES = ["cat", "frog", "hot dog"]
pytestmark = [pytest.mark.slow, pytest.mark.timing]


def key(image: Image.Image) -> bytes:
    """What tells the images apart, of which a stream has copies."""
    return image.resize((8, 8)).tobytes()


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


@pytest.mark.parametrize("size", [(500, 375), (250, 188)])
def test_a_stream_takes_as_long_as_the_slower_of_its_stages(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
):
    """With an encoder that only waits, as for a GPU."""
    images = [scene("stickers", 5, index).image.resize(size) for index in range(8)]
    pairs = [(images[index % 8], NAMES) for index in range(PICTURES)]
    with Segmenter.load("demo") as model:
        requests = [model.prepare(image, names) for image, names in pairs[:8]]
        located = zip(requests, model.locate(requests), strict=True)
        known = {id(request.image): one for request, one in located}
        asked = {key(image): request for image, request in zip(images, requests, strict=True)}

        def wait(requests: Sequence[Request]) -> list[Located]:
            time.sleep(0.1)
            return [known[id(request.image)] for request in requests]

        monkeypatch.setattr(model.method, "locate", wait)
        monkeypatch.setattr(stages, "prepare", lambda _, image, *__, **___: asked[key(image)])
        threads = processors() // min(BATCH, processors())

        def finish(request: Request) -> Segmentation:
            return stages.finish(request, known[id(request.image)], threads)

        def first_alone() -> None:
            for _ in range(PICTURES // BATCH):
                wait(requests[:BATCH])

        def second_alone() -> None:
            with ThreadPoolExecutor(min(BATCH, processors())) as pool:
                list(pool.map(finish, [requests[index % 8] for index in range(PICTURES)]))

        ratios: list[float] = []
        while len(ratios) < TRIES and min(ratios, default=2.0) > thresholds.OVERLAP:
            alone = max(seconds(first_alone), seconds(second_alone))
            whole = seconds(lambda: list(model.stream(pairs, batch_size=BATCH)))
            ratios.append(whole / alone)
    assert min(ratios) <= thresholds.OVERLAP, ratios


def test_a_stream_wastes_no_processor_time():
    """With the real encoder, the stages share the processors; each alone has the same threads."""
    images = [scene("stickers", 5, index).image.resize((500, 375)) for index in range(8)]
    pairs = [(images[index % 8], NAMES) for index in range(PICTURES)]
    with Segmenter.load("demo") as model:
        bare = replace(model.settings, crf=None)
        maps = [model.segment(image, NAMES, settings=bare).class_maps for image in images]
        matrices = lines((16, 16), (375, 500), bare, classes=len(NAMES))
        likely = [CPU.kernels.probabilities(own, matrices, bare.threshold) for own in maps]
        pixels = [np.asarray(image) for image in images]

        def encode() -> None:
            list(model.stream(pairs, batch_size=BATCH, settings=bare))

        def sharpen() -> None:
            with ThreadPoolExecutor(min(BATCH, processors())) as pool:
                list(pool.map(crf.marginals, pixels * 8, likely * 8))

        ratios: list[float] = []
        while len(ratios) < TRIES and min(ratios, default=2.0) > thresholds.OVERLAP:
            busy = time.process_time()
            encode()
            sharpen()
            busy = time.process_time() - busy
            whole = seconds(lambda: list(model.stream(pairs, batch_size=BATCH)))
            ratios.append(whole / (busy / processors()))
    assert min(ratios) <= thresholds.OVERLAP, ratios
