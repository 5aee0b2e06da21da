from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.runners.onnx_header import require_onnx


@pytest.mark.parametrize("graph", ["vision", "salience", "vision_tokens"])
def test_graphs_are_taken(graph: str) -> None:
    require_onnx(open_model("demo").graph_path(graph))


@pytest.mark.parametrize("data", [b"", b"not a graph", bytes(100), b"\xff" * 100, b"\x08\x07"])
def test_what_is_no_graph_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(ValueError, match="it is no ONNX"):
        require_onnx(tmp_path / "x.onnx")


def test_any_damage_is_refused_or_not_seen(tmp_path: Path) -> None:
    whole = open_model("demo").graph_path("vision").read_bytes()
    random = Random(0)
    for _ in range(200):
        data = bytearray(whole[: random.randrange(len(whole))])
        data[: random.randrange(50)] = random.randbytes(random.randrange(50))
        (tmp_path / "x.onnx").write_bytes(data)
        with pytest.raises(ValueError, match=r"it is no ONNX|its operators"):
            require_onnx(tmp_path / "x.onnx")
