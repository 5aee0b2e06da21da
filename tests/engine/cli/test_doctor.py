from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from pnp_ovss.engine import ModelError
from pnp_ovss.engine.cli import doctor, main
from pnp_ovss.engine.model import folder as model_folder
from pnp_ovss.engine.model.folder import cache_folder
from pnp_ovss.engine.model.manifest import TOKENIZER
from pnp_ovss.engine.refine import pydensecrf_worker
from tests.conftest import Exported
from tests.engine.runners import stand_ins


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder("any/name").parent


def examine(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--json"])
    printed = capsys.readouterr()
    assert printed.err == ""
    return code, json.loads(printed.out)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    def version(name: str) -> str:
        if name in packages:
            raise PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(doctor, "version", version)


def causes(report: dict[str, Any], severity: str) -> str:
    found = [p for p in report["problems"] if p["severity"] == severity]
    assert all(problem["cure"] for problem in found)
    return "\n".join(problem["cause"] for problem in found)


def test_this_machine_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    code, report = examine(capsys)
    assert code == 0
    assert report["ready"] is True
    assert "CPUExecutionProvider" in report["providers"]
    assert report["models"]["demo"].endswith(" px")


def test_the_text_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pnp-ovss")
    assert lines[-1] == "ready"
    assert any(line.startswith("providers") and "CPU" in line for line in lines)


def test_no_backend_is_an_error_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "onnxruntime", "onnxruntime-gpu", "openvino")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in ("onnxruntime", "onnxruntime_sessions"):
        monkeypatch.delitem(sys.modules, f"pnp_ovss.engine.runners.{name}", raising=False)
    code, report = examine(capsys)
    assert (code, report["ready"], report["providers"]) == (1, False, [])
    assert "ONNX Runtime is not installed" in causes(report, "error")
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("\nnot ready\n")


def test_openvino_will_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for name in ("onnxruntime", "onnxruntime_sessions"):
        monkeypatch.delitem(sys.modules, f"pnp_ovss.engine.runners.{name}", raising=False)
    code, report = examine(capsys)
    assert (code, report["ready"]) == (0, True)
    assert report["backends"]["openvino"].startswith("runs on cpu in fp32")
    assert "ONNX Runtime is not installed" in causes(report, "note")


def test_two_onnxruntimes_are_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without(monkeypatch)
    code, report = examine(capsys)
    assert code == 1
    assert "overwrite each other" in causes(report, "error")


@pytest.mark.parametrize(
    ("package", "cure"),
    [
        ("pydensecrf2", pydensecrf_worker.CURE),
        ("torch", "pip install 'pnp-ovss[export]'"),
        ("pillow-heif", "pip install 'pnp-ovss[heic]'"),
        ("supervision", "pip install 'pnp-ovss[interop]'"),
    ],
)
def test_a_missing_extra_is_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str, cure: str
) -> None:
    without(monkeypatch, package, "onnxruntime-gpu")
    code, report = examine(capsys)
    assert code == 0
    (problem,) = [one for one in report["problems"] if package in one["cause"]]
    assert (problem["severity"], problem["cure"]) == ("note", cure)


@pytest.mark.usefixtures("no_openvino")
def test_a_backend_that_is_not_installed_is_a_note_with_its_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once each; that the demo model has no build, or this machine no GPU, is none."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, report = examine(capsys)
    assert code == 0
    notes = {one["cause"]: one["cure"] for one in report["problems"]}
    assert notes["openvino: OpenVINO is not installed"] == "pip install 'pnp-ovss[openvino]'"
    assert notes["aotinductor: PyTorch is not installed"] == "pip install 'pnp-ovss[aotinductor]'"
    assert "tensorrt" not in causes(report, "note")
    assert report["backends"]["tensorrt"] == "runs on NVIDIA GPUs, and none can be used here"


def test_exported_models_are_listed_and_a_damaged_one_is_a_warning(
    cache: Path, exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path(shutil.copytree(exported.folder, cache / "org--whole"))
    damaged = Path(shutil.copytree(exported.folder, cache / "org--damaged"))
    (damaged / TOKENIZER).write_text("{")
    code, report = examine(capsys)
    assert code == 0
    assert report["models"][str(whole)].endswith(" px")
    assert report["models"][str(damaged)] == "damaged"
    assert str(damaged) in causes(report, "warning")


def test_a_damaged_demo_model_is_an_error(
    model_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (model_copy / "onnx" / "vision.onnx").unlink()
    monkeypatch.setattr(model_folder, "find_model", lambda _: model_copy)
    code, report = examine(capsys)
    assert code == 1
    assert "is missing" in causes(report, "error")


@pytest.mark.parametrize(
    "outcome",
    [
        subprocess.TimeoutExpired("nvidia-smi", 20),
        subprocess.CalledProcessError(9, "nvidia-smi"),
        OSError("exec format error"),
    ],
    ids=["hangs", "fails", "cannot run"],
)
def test_an_nvidia_smi_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcome: Exception
) -> None:
    def run(*_: object, **__: object) -> None:
        raise outcome

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(doctor.subprocess, "run", run)
    code, report = examine(capsys)
    assert code == 0
    assert report["gpu"] == []
    assert "device 'cuda:0' cannot be used: " in causes(report, "warning")


def test_cupy_without_a_driver_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever installed it wants a GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", stand_ins.cupy(stand_ins.no_driver))
    monkeypatch.setattr("pnp_ovss.engine.device.has_nvidia_driver", lambda: False)
    code, report = examine(capsys)
    assert code == 0
    (warning,) = [one for one in report["problems"] if one["severity"] == "warning"]
    assert warning["cause"].startswith("no GPU can be used: cudaErrorInsufficientDriver")
    assert "install NVIDIA's driver" in warning["cure"]


def test_a_graph_that_is_refused_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ModelError("the library cannot load it", "export the model again")

    monkeypatch.setattr(doctor, "open_runner", refuse)
    code, report = examine(capsys)
    assert code == 0
    assert report["backends"]["onnxruntime"] == "the library cannot load it"
    assert "onnxruntime: the library cannot load it" in causes(report, "note")


def test_what_was_not_built_is_told_with_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    _, report = examine(capsys)
    told = "no build of vision; pnp-ovss build demo --target aotinductor --device cpu"
    assert report["backends"]["aotinductor"] == told


@pytest.mark.parametrize("whole", [True, False])
def test_where_a_gpu_is_it_looks_for_the_headers_that_aotinductor_needs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    whole: bool,
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(doctor, "open_device", lambda _: stand_ins.device())
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    headers = ("cuda.h", "cuda_runtime_api.h", "crt/host_defines.h", "nv/target")
    for name in headers if whole else headers[:3]:
        path = tmp_path / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    _, report = examine(capsys)
    assert report["cuda_headers"] == (str(tmp_path) if whole else None)
    said = "aotinductor packages cannot be built for cuda:0"
    assert (said in causes(report, "note")) is not whole
    assert ("lacks headers of CUDA: nv/target" in causes(report, "note")) is not whole
