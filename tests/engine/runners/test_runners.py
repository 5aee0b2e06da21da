"""The graphs of a model together: which are loaded, when, and that all are closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pnp_ovss.engine import BackendError, ExecutionError, ModelError
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.precision import Precision
from pnp_ovss.engine.runners import Runners


def test_what_was_not_loaded_is_not_loaded_to_be_freed() -> None:
    def load(_: str) -> Any:
        raise AssertionError("loaded")

    Runners(load, CPU, []).close()


class Named:
    """A graph that gives back its name, and what it was given."""

    device = CPU
    precision: Precision = "fp32"
    build = None

    def __init__(self, graph: str) -> None:
        self.graph = graph
        self.closed = 0

    def run(self, feeds: Any, outputs: Any = None) -> dict[str, Any]:
        if self.closed:
            raise ExecutionError("the model was closed", "load it again")
        return {"graph": self.graph, "feeds": feeds, "outputs": outputs}

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def loads() -> tuple[Callable[[str], Named], list[Named]]:
    """Loads graphs, and lists those that it has loaded."""
    loaded: list[Named] = []

    def load(graph: str) -> Named:
        loaded.append(Named(graph))
        return loaded[-1]

    return load, loaded


def test_graphs_run_by_name(loads: tuple[Callable[[str], Named], list[Named]]) -> None:
    """Some are loaded at once, any other when it first runs, and each of them once."""
    load, loaded = loads
    runners = Runners(load, CPU, ["vision", "salience"])
    assert [one.graph for one in loaded] == ["vision", "salience"]
    for graph in ("salience", "text", "vision", "text"):
        found = runners.run(graph, {"x": 1}, ["y"])
        assert found == {"graph": graph, "feeds": {"x": 1}, "outputs": ["y"]}
    assert [one.graph for one in loaded] == ["vision", "salience", "text"]
    assert list(runners.loaded.values()) == loaded


def test_threads_load_a_graph_once() -> None:
    """Those that want it wait for the one that loads it; graphs that are there run meanwhile."""
    loaded: list[Named] = []
    loading, finish = threading.Event(), threading.Event()

    def load(graph: str) -> Named:
        if graph == "text":
            loading.set()
            assert finish.wait(10)
        loaded.append(Named(graph))
        return loaded[-1]

    runners = Runners(load, CPU, ["vision"])
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(runners.run, "text", {}) for _ in range(3)]
        assert loading.wait(10)
        try:
            assert threads.submit(runners.run, "vision", {}).result(10)["graph"] == "vision"
            assert not any(one.done() for one in waiting)
        finally:
            finish.set()
        assert {one.result(10)["graph"] for one in waiting} == {"text"}
    assert [one.graph for one in loaded] == ["vision", "text"]


def test_all_that_was_loaded_is_closed_and_nothing_is_loaded_afterwards(
    loads: tuple[Callable[[str], Named], list[Named]],
) -> None:
    load, loaded = loads
    runners = Runners(load, CPU, ["vision"])
    runners.run("text", {})
    runners.close()
    assert [(one.graph, one.closed) for one in loaded] == [("vision", 1), ("text", 1)]
    for graph in ("vision", "text", "salience"):  # the last was not loaded
        with pytest.raises(ExecutionError, match="was closed"):
            runners.run(graph, {})
    assert len(loaded) == 2


def test_a_graph_that_could_not_be_loaded_can_be_later(
    loads: tuple[Callable[[str], Named], list[Named]],
) -> None:
    """Where it is built meanwhile."""
    refused = iter([BackendError("not built")])

    def load(graph: str) -> Named:
        for error in refused:
            raise error
        return loads[0](graph)

    runners = Runners(load, CPU, [])
    with pytest.raises(BackendError, match="not built"):
        runners.run("text", {})
    assert runners.run("text", {})["graph"] == "text"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ModelError("damaged")])
def test_what_was_loaded_is_closed_where_a_later_graph_cannot_be_had(
    loads: tuple[Callable[[str], Named], list[Named]], error: BaseException
) -> None:
    def load(graph: str) -> Named:
        if graph == "text":
            raise error
        return loads[0](graph)

    with pytest.raises(type(error)):
        Runners(load, CPU, ["vision", "salience", "text"])
    assert [(one.graph, one.closed) for one in loads[1]] == [("vision", 1), ("salience", 1)]
