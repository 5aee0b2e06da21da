"""What a type checker sees of the Python API, and that the arrays have those dtypes.

`make lint` checks this file in pyright's strict mode, so that an `assert_type` that does not hold,
or a name that the package hides behind its lazy imports, fails there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pnp_ovss.engine import PnpOvssError, Segmentation, Segmenter, Settings
from pnp_ovss.engine.methods.base import Located, Request
from pnp_ovss.engine.pipeline.stages import finish

if sys.version_info >= (3, 11):
    from typing import assert_type
else:
    from typing_extensions import assert_type

SAMPLE = Path(__file__).parents[2] / "engine" / "data" / "samples" / "beach.jpg"
CLASSES = ["sailing boat", "turtle"]


def test_arrays_have_the_dtypes_that_are_declared():
    with Segmenter.load("demo", device="cpu") as segmenter:
        assert_type(segmenter, Segmenter)
        assert_type(segmenter.settings, Settings)
        assert_type(segmenter.device, str)
        fast = Settings.preset("paper", passes=1, crf=None)
        result = segmenter.segment(SAMPLE, CLASSES, settings=fast)
        assert_type(result, Segmentation)
        assert assert_type(result.labels, npt.NDArray[np.uint16]).dtype == np.uint16
        assert assert_type(result.class_maps, npt.NDArray[np.float32]).dtype == np.float32
        assert assert_type(result.match, npt.NDArray[np.float32]).dtype == np.float32
        assert assert_type(result.scores, npt.NDArray[np.float32]).dtype == np.float32
        assert assert_type(result.mask("turtle"), npt.NDArray[np.bool_]).dtype == np.bool_
        assert assert_type(result.areas(), npt.NDArray[np.int64]).dtype == np.int64
        assert_type(result.overlay(SAMPLE), Image.Image)
        labels = segmenter.refine(SAMPLE, result, fast)
        assert assert_type(labels, npt.NDArray[np.uint16]).dtype == np.uint16

        request = segmenter.prepare(SAMPLE, CLASSES, settings=fast)
        assert_type(request, Request)
        assert assert_type(request.pixels, npt.NDArray[np.uint8]).dtype == np.uint8
        (located,) = segmenter.locate([request])
        assert_type(located, Located)
        assert assert_type(located.class_of, npt.NDArray[np.int64]).dtype == np.int64
        assert assert_type(located.present, npt.NDArray[np.bool_]).dtype == np.bool_
        assert_type(finish(request, located.to_host()), Segmentation)

        pairs = [(SAMPLE, CLASSES)]
        assert_type(segmenter.stream(pairs, settings=fast), Iterator[Segmentation])
        either = segmenter.stream(pairs, settings=fast, errors="return")
        assert_type(either, Iterator[Segmentation | PnpOvssError])
        assert [type(one) for one in either] == [Segmentation]
