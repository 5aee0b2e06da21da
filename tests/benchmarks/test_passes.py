from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pnp_ovss.engine.network import Network

from benchmarks import passes


def measured(folder: Path, *names: str) -> dict[tuple[str, int | None], dict[str, Any]]:
    rows = passes.measure(
        "blip-tiny",
        device="cpu",
        sizes=[96],
        batches=[1, 2],
        names=names,
        rounds=1,
        folder=folder,
        until=math.inf,
        say=lambda _: None,
    )
    return {(row["contender"], row.get("batch")): row for row in rows if "contender" in row}


def test_one_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = Network.embed

    def fail(network: Network, pixels: Any) -> Any:
        if len(pixels) == 2:
            raise MemoryError
        return embed(network, pixels)

    monkeypatch.setattr(Network, "embed", fail)
    rows = measured(tmp_path, "eager-fp32", "onnxruntime-fp32", "tensorrt-fp16")
    assert rows["onnxruntime-fp32", 1]["median_s"] > 0
    assert rows["onnxruntime-fp32", 2]["skipped"] == "MemoryError"
    assert rows["eager-fp32", 2]["median_s"] > 0
    assert "pip install" in rows["tensorrt-fp16", None]["skipped"]


def test_one_that_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(Network, "embed", fail)
    rows = measured(tmp_path, "eager-fp32", "onnxruntime-fp32")
    assert rows.keys() == {("eager-fp32", 1), ("eager-fp32", 2), ("onnxruntime-fp32", None)}
    assert rows["onnxruntime-fp32", None]["skipped"] == "RuntimeError; no kernel"
