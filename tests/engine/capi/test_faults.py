"""The library meets failures of the runtime and of memory, bad arguments and bad runtimes.

The programs are in C, next to this file. They run on a fake ONNX Runtime, stub_onnxruntime.c.
"""

from __future__ import annotations

import ctypes.util
import re
from pathlib import Path

import pytest

from tests.engine.capi import folders, variants
from tests.once import made_once

pytestmark = pytest.mark.slow  # the library is built

BOTH = pytest.mark.parametrize("variant", ["built", "asan"])
FAULTS = ("faults.c", "calls.c", "world.c")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small models, `small` and `other`, whose vocabularies differ."""

    def make(folder: Path) -> None:
        folders.make_folder(folder / "small")
        folders.make_folder(folder / "other", swapped=True)

    return made_once(tmp_path_factory, "capi-models", make)


def failures(said: str) -> dict[str, int]:
    """Read how many failures each call met."""
    return {name: int(count) for name, count in re.findall(r"^(.+): (\d+)$", said, re.MULTILINE)}


@BOTH
@pytest.mark.parametrize("how", ["calls", "calls-on", "calls-memory"])
def test_each_failure_of_the_runtime_is_told_and_leaves_nothing(
    variant: str, how: str, models: Path, tmp_path_factory: pytest.TempPathFactory
):
    faults = variants.program(tmp_path_factory, variant, "faults", *FAULTS)
    said = variants.run(faults, variants.stub(tmp_path_factory, variant), models / "small", how)
    found = failures(said)
    assert found["first runtime_open"] == 2
    assert found["model_open"] >= 10
    assert found["model_open on CUDA"] >= 16
    assert found["segment, pixels"] >= 30
    assert found["segment_batch"] >= 90
    assert found["finish"] == found["preprocess"] == found["names_create"] == 0


@pytest.mark.parametrize("how", ["allocations", "allocations-on", "both", "threads"])
@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.long)])
def test_each_want_of_memory_is_told_and_leaves_nothing(
    how: str, step: int, models: Path, tmp_path_factory: pytest.TempPathFactory
):
    """Each allocation of a call fails once, or every one after a number of them."""
    faults = variants.program(tmp_path_factory, "asan", "faults-memory", *FAULTS, faults=True)
    stub = variants.stub(tmp_path_factory, "asan")
    said = variants.run(faults, stub, models / "small", how, step, seconds=3000)
    found = failures(said)
    if how == "threads":
        assert found["segment_batch"] > 0 or step > 1
    elif how == "both":
        assert found["model_open"] >= 10 // step
    else:
        assert found["model_open"] > 1000 // step
        calls = ("names_create", "segment, pixels", "finish")
        assert min(found[name] for name in calls) > 20 // step


@BOTH
def test_bad_arguments_are_refused(
    variant: str, models: Path, tmp_path_factory: pytest.TempPathFactory
):
    sources = "arguments.c", "arguments_more.c", "world.c"
    arguments = variants.program(tmp_path_factory, variant, "arguments", *sources)
    stub = variants.stub(tmp_path_factory, variant)
    variants.run(arguments, stub, models / "small", models / "other")


@BOTH
def test_bad_runtimes_are_refused_and_runs_are_cancelled(
    variant: str, models: Path, tmp_path_factory: pytest.TempPathFactory
):
    runtimes = variants.program(tmp_path_factory, variant, "runtimes", "runtimes.c", "world.c")
    stub = variants.stub(tmp_path_factory, variant)
    libm = ctypes.util.find_library("m")
    assert libm
    variants.run(runtimes, stub, models / "small", libm)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"STUB_FAIL_AT": "1", "STUB_FAIL_MESSAGE": "no luck"}, "no luck"),
        ({"STUB_VERSION": "1.19.2"}, "1.19.2"),
        ({"STUB_NO_API": "1"}, "no C interface"),
    ],
)
def test_the_fake_runtime_obeys_its_environment(
    environment: dict[str, str],
    found: str,
    models: Path,
    tmp_path_factory: pytest.TempPathFactory,
):
    """So that programs in other languages can be tested with it, too."""
    faults = variants.program(tmp_path_factory, "built", "faults", *FAULTS)
    stub = variants.stub(tmp_path_factory, "built")
    with pytest.raises(AssertionError, match=found):
        variants.run(faults, stub, models / "small", "open", environment=environment)
