"""One image's failure, whatever it is, is that image's error, and costs no other anything."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pnp_ovss.engine import ExecutionError, InputError, PnpOvssError, Segmenter, Settings
from pnp_ovss.engine.methods.base import Located, Method, Request
from pnp_ovss.engine.pipeline import stages
from tests.conftest import SAMPLES

NAMES = ["cat", "potted plant", "sky"]


class Failing:
    """A method whose model fails for some images, as where memory runs out."""

    def __init__(self, method: Method, fails: Callable[[Request], bool], error: Exception) -> None:
        self._method, self._fails, self._error = method, fails, error
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def locate(self, requests: Sequence[Request]) -> list[Located]:
        self.batches.append(len(requests))
        if any(self._fails(request) for request in requests):
            raise self._error
        return self._method.locate(requests)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory for this image"),
        (ValueError("of another library"), "unexpected ValueError: of another library"),
        (ExecutionError("the graph failed"), "the graph failed"),
    ],
)
def test_a_model_that_fails_for_one_image_of_a_batch(
    segmenter: Segmenter, picture: Any, error: Exception, said: str
) -> None:
    """The others of its batch are run again, each by itself."""
    wide = 90
    method: Any = Failing(segmenter.method, lambda request: request.image.width == wide, error)
    pairs = [(picture(seed, wide if seed == 2 else 80, 60), NAMES) for seed in range(5)]
    results = list(
        stages.stream(
            method,
            pairs,
            Settings(passes=1, crf=None),
            pair=lambda pair: pair,
            then=lambda _pair, _request, result: result,
            batch_size=4,
        )
    )
    assert method.batches == [4, 1, 1, 1, 1, 1]
    assert [isinstance(one, PnpOvssError) for one in results] == [False, False, True, False, False]
    failed = results[2]
    assert isinstance(failed, PnpOvssError)
    assert said in failed.cause
    assert failed.__cause__ in (None, error)


def test_what_the_memory_of_the_process_cannot_hold_is_refused(picture: Any) -> None:
    """Before it is tried, whichever the limit is, and without an end of other images."""
    code = """
import resource, sys
import numpy as np
from PIL import Image
from pnp_ovss.engine import InputError, PnpOvssError, Segmenter, Settings
segmenter = Segmenter.load(backend="onnxruntime", threads=1)
small, large = (Image.new("RGB", (side, side), "red") for side in (50, 6000))
segmenter.segment(small, ["cat"])
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
limit = used * 1024 + 500 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
first, error, last = segmenter.stream(
    [(small, ["cat"]), (large, ["cat"]), (small, ["cat"])], batch_size=1, errors="return"
)
assert isinstance(error, InputError), repr(error)
assert "of memory; there are" in error.cause, error.cause
assert (first.labels == last.labels).all()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_error_holds_no_image(segmenter: Segmenter, picture: Any) -> None:
    """The frames of its traceback would hold it as long as the caller keeps the error."""
    gc.collect()
    gc.disable()
    try:
        request = weakref.ref(picture(1, 200, 100))
        held: list[weakref.ref[Image.Image]] = []

        def image() -> Image.Image:
            made = picture(1, 200, 100)
            held.append(weakref.ref(made))
            return made

        errors: list[Any] = []
        with contextlib.suppress(InputError):
            segmenter.segment(image(), ["cat", "cat"])
        errors += segmenter.stream([(image(), ["cat", "cat"])], errors="return")
        method: Any = Failing(segmenter.method, lambda _: True, MemoryError())
        pairs = [(image(), NAMES)]
        errors += stages.stream(
            method, pairs, Settings(), pair=lambda pair: pair, then=lambda *parts: parts
        )
        del pairs
        assert [type(error) for error in errors] == [InputError, ExecutionError]
        assert request() is None
        assert [one() for one in held] == [None] * 3
    finally:
        gc.enable()


def test_what_a_signal_handler_raises_is_no_fault_of_an_image(tmp_path: Path) -> None:
    """As limits of time are raised by task queues: it ends the call, and is told as it is."""
    code = f"""
import signal, sys
from pnp_ovss.engine import Segmenter
class LimitError(Exception): pass
def limit(*_): raise LimitError
signal.signal(signal.SIGALRM, limit)
segmenter = Segmenter.load(backend=sys.argv[1])
pair = ({str(SAMPLES / "beach.jpg")!r}, ["turtle", "umbrella"])
segmenter.segment(*pair)
for call in (
    lambda: [segmenter.segment(*pair) for _ in range(1000)],
    lambda: list(segmenter.stream([pair] * 1000, batch_size=2, errors="return")),
):
    for seconds in (0.05, 0.13):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try: call()
        except LimitError: print("limit")
"""
    for backend in ("onnxruntime", "openvino"):
        pytest.importorskip(backend)
        done = subprocess.run(
            [sys.executable, "-c", code, backend],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout == "limit\n" * 4
