from __future__ import annotations

import ast
import shutil
import textwrap
import threading
import timeit
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pnp_ovss.engine import ExecutionError, Segmenter, Settings, tracing
from pnp_ovss.engine.pipeline import stages
from pnp_ovss.engine.result.files import describe
from pnp_ovss.engine.tracing import SPANS, listening, span
from tests import thresholds
from tests.conftest import SAMPLES

NAMES = ["cat", "potted plant", "sky"]
ENGINE = Path(__file__).resolve().parents[2] / "engine"


class Recorder:
    """A tracer that keeps what it hears: the event, the span, and those open on its thread."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.nested: list[tuple[str, str]] = []
        self.threads: set[int] = set()
        self._open = threading.local()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        spans: list[str] = self._open.__dict__.setdefault("spans", [])
        self.nested += [(outer, name) for outer in spans]
        self.threads.add(threading.get_ident())
        self.heard.append(f"+{name}")
        spans.append(name)
        try:
            yield
        except Exception as error:
            self.heard.append(type(error).__name__)
            raise
        finally:
            spans.pop()
            self.heard.append(f"-{name}")

    @property
    def names(self) -> set[str]:
        return {name[1:] for name in self.heard if name.startswith("+")}


def segmented(segmenter: Segmenter, image: Any, **changes: Any) -> Recorder:
    recorder = Recorder()
    settings = Settings(passes=2, **changes)
    with listening(recorder):
        segmenter.segment(image, NAMES, settings=settings)
    return recorder


@pytest.mark.parametrize("drop_mode", ["pixels", "tokens", "attention"])
def test_an_image_gives_each_span_that_is_documented(
    segmenter: Segmenter, picture: Any, drop_mode: Any
) -> None:
    recorder = segmented(segmenter, picture(), drop_mode=drop_mode)
    assert recorder.names == SPANS.keys() - {"write"}
    assert not recorder.nested
    passes_of_vision = 1 if drop_mode == "attention" else 2
    assert recorder.heard.count("+vision") == passes_of_vision
    for name in ("salience", "drop"):
        assert recorder.heard.count(f"+{name}") == 2
    for name in ("decode", "match", "refine", "crf", "labels"):
        assert recorder.heard.count(f"+{name}") == 1


def test_what_is_left_out_gives_no_span(segmenter: Segmenter, picture: Any) -> None:
    assert "crf" not in segmented(segmenter, picture(), crf=None).names


def test_a_stream_to_files_gives_all_spans_from_all_threads(
    segmenter: Segmenter, picture: Any, tmp_path: Path
) -> None:
    recorder = Recorder()
    settings, model = Settings(passes=2), describe(segmenter.model.manifest, segmenter.placement)
    with listening(recorder):
        results = stages.stream(
            segmenter.method,
            [(picture(seed), NAMES) for seed in range(5)],
            settings,
            pair=lambda pair: pair,
            then=lambda _, request, result: stages.save(
                result, request.image, tmp_path, name="one", settings=settings, model=model
            ),
            batch_size=2,
        )
        assert len(list(results)) == 5
    assert recorder.names == SPANS.keys()
    assert not recorder.nested
    assert len(recorder.threads) > 1
    for name in ("decode", "refine", "crf", "labels", "write"):
        assert recorder.heard.count(f"+{name}") == 5


def test_refining_again_gives_the_spans_of_refinement(segmenter: Segmenter, picture: Any) -> None:
    settings = Settings(passes=1)
    result = segmenter.segment(picture(), NAMES, settings=settings)
    with listening(again := Recorder()):
        segmenter.refine(picture(), result, settings)
    assert again.names == {"decode", "refine", "crf", "labels"}


def test_every_span_in_the_sources_is_documented() -> None:
    named = {
        node.args[0].value if isinstance(node.args[0], ast.Constant) else ast.dump(node)
        for path in ENGINE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "span"
    }
    assert named == SPANS.keys()


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an image that is there."""
    shutil.copy(SAMPLES / "party.jpg", tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    _, _, rest = (tracing.__doc__ or "").partition("of each stage:\n\n")
    example = textwrap.dedent(rest.partition("\nA histogram")[0])
    scope: dict[str, Any] = {}
    exec(example, scope)
    seconds: dict[str, list[float]] = scope["seconds"]
    assert seconds.keys() == SPANS.keys() - {"write"}
    assert all(one > 0 for every in seconds.values() for one in every)


@pytest.mark.timing
def test_a_span_that_nobody_hears_costs_nothing() -> None:
    assert span("a") is span("b")

    def spans() -> None:
        with span("a"):
            pass

    count = 2000
    assert min(timeit.repeat(spans, number=count, repeat=20)) / count < thresholds.SPAN_SECONDS


def test_spans_of_threads_that_ran_before_are_heard() -> None:
    recorder, begin = Recorder(), threading.Event()

    def work() -> None:
        begin.wait(10)
        with span("a"):
            pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    with listening(recorder):
        begin.set()
        for thread in threads:
            thread.join()
    assert sorted(recorder.heard) == ["+a"] * 4 + ["-a"] * 4


def test_tracers_come_and_go_on_several_threads() -> None:
    def work() -> None:
        for _ in range(300):
            with listening(recorder := Recorder()), span("mine"):
                pass
            assert recorder.names == {"mine"}
            assert "-mine" in recorder.heard

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert span("a") is span("b")


def test_spans_within_spans() -> None:
    with listening(recorder := Recorder()), span("outer"), span("inner"):
        pass
    assert recorder.heard == ["+outer", "+inner", "-inner", "-outer"]


def test_an_error_ends_the_span_and_goes_on() -> None:
    with pytest.raises(ExecutionError), listening(recorder := Recorder()), span("a"):
        raise ExecutionError("broken", "mend it")
    assert recorder.heard == ["+a", "ExecutionError", "-a"]
    assert span("a") is span("b")


def test_a_tracer_cannot_swallow_an_error() -> None:
    def swallowing(_: str) -> AbstractContextManager[None]:
        return suppress(ZeroDivisionError)

    with pytest.raises(ZeroDivisionError), listening(swallowing), span("a"):
        _ = 1 / 0


def test_an_error_of_a_tracer_is_raised_and_others_are_left() -> None:
    def broken(_: str) -> AbstractContextManager[None]:
        raise ValueError("a broken tracer")

    recorder = Recorder()
    with listening(recorder), listening(broken):
        opened = span("a")
        with pytest.raises(ValueError, match="a broken tracer"):
            opened.__enter__()
    assert recorder.heard == ["+a", "ValueError", "-a"]


def test_a_tracer_that_leaves_hears_the_end_of_what_is_open() -> None:
    recorder, ends = Recorder(), ExitStack()
    with listening(recorder):
        ends.enter_context(span("open"))
    with span("later"):
        pass
    assert recorder.heard == ["+open"]
    ends.close()
    assert recorder.heard == ["+open", "-open"]


def test_a_tracer_that_comes_hears_what_begins() -> None:
    with span("open"), listening(recorder := Recorder()), span("inner"):
        pass
    assert recorder.heard == ["+inner", "-inner"]


def test_two_tracers_both_hear_and_leave_in_any_order() -> None:
    order: list[str] = []

    def tracer(who: str) -> tracing.Tracer:
        @contextmanager
        def hear(name: str) -> Iterator[None]:
            order.append(f"+{who} {name}")
            yield
            order.append(f"-{who} {name}")

        return hear

    first, second = listening(tracer("first")), listening(tracer("second"))
    first.__enter__()
    second.__enter__()
    with span("a"):
        pass
    assert order == ["+first a", "+second a", "-second a", "-first a"]
    order.clear()
    first.__exit__(None, None, None)
    with span("b"):
        pass
    assert order == ["+second b", "-second b"]
    second.__exit__(None, None, None)
    assert span("a") is span("b")
