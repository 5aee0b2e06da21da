from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.harness.records import machine
from benchmarks.harness.timing import bootstrap_interval
from benchmarks.measures import kernels
from pnp_ovss.engine.device import CPU

ABOUT = {"machine": machine(), "command": "python -m benchmarks kernels"}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr(kernels, "IMAGE_SIZES", ((60, 40),))
    return list(kernels.measure("cpu", 2, ABOUT))


def test_every_kernel_is_compared_and_timed(rows: list[dict[str, Any]]) -> None:
    assert {row["kernel"] for row in rows} >= {
        "normalize",
        "blank_patches",
        "accumulate",
        "drop_salient",
        "channels (threshold, upsample, background, blur)",
        "probabilities (channels, softmax)",
        "enlarged_labels (at the same size)",
    }
    for row in rows:
        assert row["off"] < 1e-4
        assert row["ours_s"] > 0
        assert row["rounds"] >= 2
        low, high = row["ratio_interval"]
        assert low <= row["ratio"] <= high
    table = kernels.table(rows)
    assert len([line for line in table.splitlines() if line.startswith("| ")]) == len(rows) + 1


def test_one_that_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "IMAGE_SIZES", ((60, 40),))
    right = CPU.kernels.probabilities
    monkeypatch.setattr(CPU.kernels, "probabilities", lambda *given: 1.01 * right(*given))
    wrong = [row for row in kernels.measure("cpu", 1, ABOUT) if "skipped" in row]
    assert {row["kernel"] for row in wrong} == {"probabilities (channels, softmax)"}
    assert "wrong: off by" in kernels.table(wrong)


def test_an_interval_of_one_round() -> None:
    assert bootstrap_interval(np.array([4.0]), np.array([2.0])) == (2, 2)
