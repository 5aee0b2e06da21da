"""The library under sanitizers: with the real ONNX Runtime, and with many threads on a fake one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.capi import built, folders, variants

pytestmark = pytest.mark.slow  # they compile the library under sanitizers


def test_a_life_on_the_real_runtime_under_address_sanitizers(
    tmp_path_factory: pytest.TempPathFactory,
):
    """No leak is suppressed: ONNX Runtime has none of its own that is seen here."""
    life = variants.program(tmp_path_factory, "asan", "life", "life.c")
    assert "done" in variants.run(life, built.ort_library(), folders.DEMO)


def test_many_threads_under_a_thread_sanitizer(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    threads = variants.program(tmp_path_factory, "tsan", "threads", "threads.c", "world.c")
    small = folders.make_folder(tmp_path / "small")
    said = variants.run(threads, variants.stub(tmp_path_factory, "tsan"), small, 2, 16)
    assert "calls were cancelled" in said
