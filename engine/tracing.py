"""Spans: the time of each stage of a segmentation, for whoever listens.

The engine opens a span around each stage; `SPANS` lists them. By default nobody listens, and a
span does nothing. A tracer is a function that takes the name of a span and returns a context
manager, which is entered where the span begins and left where it ends. This one keeps the seconds
of each stage:

    from collections import defaultdict
    from contextlib import contextmanager
    from time import perf_counter
    from pnp_ovss.engine import Segmenter, tracing

    seconds = defaultdict(list)

    @contextmanager
    def tracer(name):
        began = perf_counter()
        yield  # the stage runs
        seconds[name].append(perf_counter() - began)

    with Segmenter.load() as segmenter, tracing.listening(tracer):
        segmenter.segment("photo.jpg", ["cat", "teddy bear"])

A histogram of Prometheus is `listening(lambda name: SECONDS.labels(name).time())`, spans of
OpenTelemetry are `listening(TRACER.start_as_current_span)`.

No span lies within another on the same thread, so that their seconds add up. A batch shares the
spans of the model; every image has its own of the other stages. Images of a stream overlap, each
stage on its own thread: the seconds of all spans may be more than those that passed.

On a GPU a span measures how long the host queues the work, unless the tracer waits for the device
before it reads the clock, which keeps stages from overlapping.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import Any

from .fork import Lock

SPANS = {
    "encode": "class names become token ids",
    "decode": "an image is read and decoded to RGB",
    "preprocess": "the image is resized and normalized for the model",
    "vision": "the image encoder runs: once, and again in each pass that changes its input",
    "match": "each class by itself is matched with the image",
    "salience": "the matching branch and its gradient run, in each pass",
    "drop": "salience is summed, and the most salient patches are dropped, in each pass",
    "refine": "class maps become blurred channels at the size of the image",
    "crf": "the dense CRF sharpens the channels",
    "labels": "each pixel gets the class of its largest channel",
    "write": "label image, overlay and report are written to files",
}
"""Names of all spans of the engine, and what happens in each, in the order of an image."""

Tracer = Callable[[str], AbstractContextManager[Any]]
"""Takes the name of a span, returns a context manager that is in force as long as the span is."""

_NOTHING = nullcontext()
_tracers: tuple[Tracer, ...] = ()
_changing = Lock()


def span(name: str) -> AbstractContextManager[None]:
    """Open a span for every tracer that listens.

    Args:
        name: of a stage; of the engine's stages a key of `SPANS`.
    """
    tracers = _tracers
    return _Heard(name, tracers) if tracers else _NOTHING


@contextmanager
def listening(tracer: Tracer) -> Generator[None, None, None]:
    """Let a tracer hear the spans of all threads that begin within the block.

    Several tracers may listen at once, and leave in any order; the one that came first is entered
    first and left last. A span that is open at the end of the block still ends for the tracer.

    Args:
        tracer: called on the thread of the span, by several threads at once. What it raises is the
            error of the image at hand. It cannot swallow an error of the engine.
    """
    global _tracers
    with _changing:
        _tracers = (*_tracers, tracer)
    try:
        yield
    finally:
        with _changing:
            others = list(_tracers)
            others.remove(tracer)
            _tracers = tuple(others)


class _Heard:
    """A span for the tracers that listened when it was opened."""

    def __init__(self, name: str, tracers: tuple[Tracer, ...]) -> None:
        self._name, self._tracers = name, tracers

    def __enter__(self) -> None:
        with ExitStack() as entered:
            for tracer in self._tracers:
                entered.enter_context(tracer(self._name))
            self._leave = entered.pop_all().__exit__

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(kind, error, trace)
