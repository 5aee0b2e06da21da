"""What runs a model, and what was passed over for it: on stderr once, and in every report."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pnp_ovss.engine.cli import main
from pnp_ovss.engine.model.folder import open_model
from tests.engine.runners import stand_ins
from tests.engine.runners.test_backends import built, no_gpu_build


@pytest.mark.parametrize("command", ["segment", "evaluate", "ablation"])
def test_a_command_tells_it_once(
    model_copy: Path,
    command: str,
    tmp_path: Path,
    picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With what is absent in one line, and what is broken in one each, with its cure."""
    pytest.importorskip("torch")
    pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr("pnp_ovss.engine.device.has_nvidia_driver", lambda: False)
    built(open_model(model_copy), "aotinductor", "vision", architectures=["cpu-abacus"])
    for name in ("a", "b"):
        picture().save(tmp_path / f"{name}.png")
    images = [str(tmp_path / f"{name}.png") for name in ("a", "b")]
    words = {
        "segment": ["segment", *images, "-c", "cat", "-o", str(tmp_path / "out")],
        "evaluate": ["evaluate", "stickers", "--images", "1"],
        "ablation": ["evaluate", "stickers", "--images", "1", "--ablation", "--passes", "2"],
    }[command]
    words += ["-m", str(model_copy), "--json", "--crf", "none", "--drop-mode", "tokens"]
    assert main(words) == 0
    printed = capsys.readouterr()
    lines = [one for one in printed.err.splitlines() if "random weights" not in one]
    assert lines[0] == (
        "pnp-ovss: note: running on cpu with openvino in fp32;"
        " passed over: cuda:0 (CuPy is not installed)"
    )
    assert lines[1].startswith(
        "pnp-ovss: warning: passed over aotinductor on cpu:"
        " the aotinductor build of vision is for cpu-abacus; this device is cpu-"
    )
    assert lines[2:] == [f"  pnp-ovss build '{model_copy}' --target aotinductor --device cpu"]
    reports = json.loads(printed.out)
    for report in reports if command == "segment" else [reports]:
        told = report["model"]
        assert (told["device"], told["backend"], told["precision"]) == ("cpu", "openvino", "fp32")
        assert told["builds"] == {"vision": None, "salience": None, "vision_tokens": None}
        device, build = told["passed_over"]
        assert device["reason"] == "CuPy is not installed"
        assert (build["backend"], build["severity"]) == ("aotinductor", "warning")
        assert build["cure"] == lines[2].strip()
        assert build["reason"] in lines[1]


@no_gpu_build
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx", "aotinductor"])
@pytest.mark.parametrize(
    ("architectures", "severity", "reason"),
    [
        (["sm_86"], "warning", "the {} build of vision is for sm_86; this device is sm_89"),
        (None, "note", "no build of vision"),
    ],
    ids=["another GPU", "missing"],
)
def test_a_build_that_cannot_run_is_told_everywhere(
    model_copy: Path,
    backend: str,
    architectures: list[str] | None,
    severity: str,
    reason: str,
    tmp_path: Path,
    picture: Callable[..., Image.Image],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On standard error once, in the log once, and in the report."""
    pytest.importorskip("openvino")
    reason = reason.format(backend)
    if architectures:
        for graph in ("vision", "salience"):
            changes = {"architectures": architectures, "version": stand_ins.VERSION}
            built(open_model(model_copy), backend, graph, **changes)
    picture().save(tmp_path / "a.png")
    words = ["segment", str(tmp_path / "a.png"), "-c", "cat", "-o", str(tmp_path / "out")]
    with caplog.at_level(logging.INFO, "pnp_ovss"):
        assert main([*words, "-m", str(model_copy), "--json"]) == 0
    printed = capsys.readouterr()
    on_gpu = f"{backend} on cuda:0"
    told = f"{on_gpu}: {reason}" if architectures else f"{on_gpu} ({reason})"
    assert printed.err.count(told) == 1
    (logged,) = [one for one in caplog.records if f"over {on_gpu}: {reason}" in one.getMessage()]
    assert logged.levelno == (logging.WARNING if architectures else logging.INFO)
    (report,) = json.loads(printed.out)
    written = json.loads((tmp_path / "out" / "a.json").read_text())
    for one in (report["model"], written["model"]):
        (passed,) = [
            each
            for each in one["passed_over"]
            if (each["backend"], each["device"]) == (backend, "cuda:0")
        ]
        assert (passed["severity"], passed["reason"]) == (severity, reason)
        assert passed["cure"].startswith(f"pnp-ovss build '{model_copy}' --target {backend}")
        assert (one["device"], one["backend"]) == ("cpu", "openvino")
