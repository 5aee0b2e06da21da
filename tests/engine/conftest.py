from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.runners import tensorrt_api
from tests.engine.runners import stand_ins


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU for which everything is installed but an ONNX Runtime."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(
        "pnp_ovss.engine.runners.usable_devices", lambda _: [stand_ins.device(), CPU]
    )
    api = stand_ins.api(stand_ins.Library([]))
    monkeypatch.setattr(tensorrt_api, "require", lambda _: None)
    monkeypatch.setattr(tensorrt_api, "load", lambda target: replace(api, target=target))
    monkeypatch.setattr("pnp_ovss.engine.runners.aotinductor.require_cuda", lambda *_: None)
    monkeypatch.setattr(torch._inductor, "list_options", lambda: ["cpp.march"])
    monkeypatch.setattr(torch, "__version__", stand_ins.VERSION)


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "pnp_ovss.engine.runners.openvino", raising=False)
