from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pnp_ovss.engine.network import Network

from benchmarks import passes
from benchmarks.baselines.passes import EagerPasses
from benchmarks.cli import main


def measured(folder: Path, *names: str, until: float = math.inf) -> list[dict[str, Any]]:
    return list(
        passes.measure(
            "random:blip-tiny",
            device="cpu",
            sizes=[96],
            batches=[1, 2],
            names=names,
            rounds=1,
            folder=folder,
            until=until,
            about={"command": "python -m benchmarks passes"},
            say=lambda _: None,
        )
    )


def by_batch(rows: list[dict[str, Any]]) -> dict[tuple[str, int | None], dict[str, Any]]:
    return {(row["contender"], row.get("batch")): row for row in rows if "contender" in row}


@pytest.mark.parametrize("reference", ["eager-fp32", "eager-fp16"])
def test_pytorch_that_fails_leaves_the_engine(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where nothing is left to compare with."""
    run = EagerPasses.__call__

    def fail(eager: EagerPasses, pixels: Any, *rest: Any) -> Any:
        if len(pixels) == 2:
            raise torch.OutOfMemoryError("too much")
        return run(eager, pixels, *rest)

    monkeypatch.setattr(EagerPasses, "__call__", fail)
    everything = measured(tmp_path, reference, "onnxruntime-fp32")
    rows = by_batch(everything)
    assert rows[reference, 1]["median_s"] > 0
    assert rows[reference, 2]["skipped"] == "OutOfMemoryError; too much"
    assert rows["onnxruntime-fp32", 2]["median_s"] > 0
    assert rows["onnxruntime-fp32", 2]["salience_error"] is None
    assert "| onnxruntime-fp32 |" in passes.table(everything)


def test_one_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = Network.embed

    def fail(network: Network, pixels: Any) -> Any:
        if len(pixels) == 2:
            raise MemoryError
        return embed(network, pixels)

    monkeypatch.setattr(Network, "embed", fail)
    rows = by_batch(measured(tmp_path, "eager-fp32", "onnxruntime-fp32", "tensorrt-fp16"))
    assert rows["onnxruntime-fp32", 1]["median_s"] > 0
    assert rows["onnxruntime-fp32", 2]["skipped"] == "MemoryError"
    assert rows["eager-fp32", 2]["median_s"] > 0
    assert "pip install" in rows["tensorrt-fp16", None]["skipped"]
    assert rows["onnxruntime-fp32", 2]["failed"]
    assert not rows["tensorrt-fp16", None]["failed"]
    assert len(rows["eager-fp32", 1]["model"]["vision_sha256"]) == 64


def test_one_that_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(Network, "embed", fail)
    rows = by_batch(measured(tmp_path, "eager-fp32", "onnxruntime-fp32"))
    assert rows.keys() == {("eager-fp32", 1), ("eager-fp32", 2), ("onnxruntime-fp32", None)}
    assert rows["onnxruntime-fp32", None]["skipped"] == "RuntimeError; no kernel"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "random:blip-huge"], "there are: random:blip-tiny,"),
        (["--contender", "abacus"], "no contender 'abacus'"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_bad_usage(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["passes", *words, "-o", str(tmp_path)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_when_the_time_is_up_the_rest_is_named(tmp_path: Path) -> None:
    rows = measured(tmp_path, "eager-fp32", until=0)
    assert rows == [{"image_size": 96, "skipped": "the time was up", "failed": False}]
    assert "- 96 px: the time was up" in passes.table(rows)
    assert not list(tmp_path.iterdir())


def test_one_that_breaks_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise AttributeError("a defect")

    monkeypatch.setattr(Network, "embed", fail)
    words = "--model random:blip-tiny --image-size 96 --rounds 1 --contender onnxruntime-fp32"
    assert main(["passes", *words.split(), "--contender", "eager-fp32", "-o", str(tmp_path)]) == 1
    assert "were not timed: onnxruntime-fp32" in capsys.readouterr().err
    assert "AttributeError; a defect" in (tmp_path / "passes.md").read_text()
