from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pnp_ovss.engine.network import Network

from benchmarks import passes
from benchmarks.cli import main


def measured(folder: Path, *names: str) -> dict[tuple[str, int | None], dict[str, Any]]:
    rows = passes.measure(
        "random:blip-tiny",
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
    rows = list(
        passes.measure(
            "random:blip-tiny",
            device="cpu",
            sizes=[96],
            batches=[1],
            names=["eager-fp32"],
            rounds=1,
            folder=tmp_path,
            until=0,
            say=lambda _: None,
        )
    )
    assert rows[1:] == [{"image_size": 96, "skipped": "the time was up"}]
    assert "- 96 px: the time was up" in passes.table(rows)
    assert not list(tmp_path.iterdir())
