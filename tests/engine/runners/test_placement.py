"""What "auto" took and passed over: in the record and in the log."""

from __future__ import annotations

import logging
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pnp_ovss.engine import BackendError, Segmenter, Settings
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.errors import AbsentError, NotInstalledError
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.runners import open_runner, open_runners
from pnp_ovss.engine.runners.placement import PassedOver, Placement
from tests.engine.runners import stand_ins
from tests.engine.runners.test_backends import NOW, built, no_gpu_build


@pytest.fixture
def model(model_copy: Path) -> ModelFolder:
    return open_model(model_copy)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr("pnp_ovss.engine.device.has_nvidia_driver", lambda: False)


def damage(model: ModelFolder) -> None:
    for one in builds.recorded(model):
        one.path.write_bytes(b"other")


DEFECTS: dict[str, tuple[dict[str, Any], str]] = {
    "another GPU": ({"architectures": ["sm_86"]}, "is for sm_86; this device is sm_89"),
    "another version": ({"version": "0.1"}, "0.1; installed is 1.0"),
    "another graph": ({"graph_sha256": "0" * 64}, "was built from graph 00000000; the model's is"),
    "damaged": ({}, "is damaged: its sha256 is not that of its record"),
}


@no_gpu_build
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx", "aotinductor"])
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_stale_build_is_passed_over_with_a_warning(
    model: ModelFolder, caplog: pytest.LogCaptureFixture, backend: str, defect: str
) -> None:
    changes, reason = DEFECTS[defect]
    for graph in NOW:
        built(model, backend, graph, **{"version": stand_ins.VERSION, **changes})
    if defect == "damaged":
        damage(model)
    with caplog.at_level(logging.INFO, "pnp_ovss"):
        placement = open_runners(model, NOW).placement
    assert placement.device == "cpu"
    on_gpu = [one for one in placement.passed_over if one.device == "cuda:0"]
    (found,) = [one for one in on_gpu if one.backend == backend]
    assert found.severity == "warning"
    assert reason in found.reason
    assert found.cure.startswith(f"pnp-ovss build '{model.path}' --target {backend}")
    (told,) = [one for one in caplog.records if reason in one.getMessage()]
    assert (told.levelno, told.name) == (logging.WARNING, "pnp_ovss.engine.runners")
    assert found.cure in told.getMessage()


@no_gpu_build
@pytest.mark.usefixtures("gpu", "no_openvino")
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx", "aotinductor"])
def test_a_build_in_another_precision_is_the_one_to_mend(model: ModelFolder, backend: str) -> None:
    """Nothing else runs here in that precision; what never does is not spoken of."""
    for graph in NOW:
        built(model, backend, graph, version=stand_ins.VERSION)
    with pytest.raises(BackendError) as caught:
        open_runners(model, NOW, precision="bf16")
    reason = f"{backend} on cuda:0: the {backend} build of vision is in fp16, not in bf16"
    assert reason in caught.value.cause
    assert "onnxruntime" not in caught.value.cause
    device = " --device cuda:0" if backend == "aotinductor" else ""
    build = f"pnp-ovss build '{model.path}' --target {backend}{device} --precision bf16"
    assert caught.value.cure == build


@pytest.mark.usefixtures("gpu")
def test_a_build_that_runs_is_told(model: ModelFolder) -> None:
    engine = str(model.graph_path("vision")).encode()  # of the stand-in
    built(model, "tensorrt-rtx", "vision", content=engine, version=stand_ins.VERSION)
    ((path, _),) = builds.recorded(model)
    placement = open_runners(model, ["vision"]).placement
    cure = f"pnp-ovss build '{model.path}' --target tensorrt"
    better = PassedOver("cuda:0", "tensorrt", "no build of vision", cure, "note")
    assert placement == Placement(
        "cuda:0", "tensorrt-rtx", "fp16", {"vision": path.name}, (better,)
    )


@no_gpu_build
@pytest.mark.usefixtures("gpu")
def test_what_was_not_built_is_a_note(model: ModelFolder, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("openvino")
    with caplog.at_level(logging.INFO, "pnp_ovss"):
        placement = open_runners(model, NOW).placement
    notes = [one for one in placement.passed_over if one.severity == "note"]
    assert [(one.backend, one.device) for one in notes] == [
        ("tensorrt", "cuda:0"),
        ("tensorrt-rtx", "cuda:0"),
        ("aotinductor", "cuda:0"),
        ("aotinductor", "cpu"),
    ]
    assert {one.reason for one in notes} == {"no build of vision"}
    (warning,) = [one for one in placement.passed_over if one.severity == "warning"]
    assert (warning.backend, warning.device) == ("onnxruntime", "cuda:0")
    levels = [one.levelno for one in caplog.records]
    assert levels == [logging.INFO] * 4 + [logging.WARNING, logging.INFO]
    assert caplog.messages[0] == f"running {placement}"


@no_gpu_build
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx", "aotinductor"])
def test_a_build_whose_package_is_missing_is_a_warning(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """It was built to run; of the others nothing was, so their absence is a note."""
    pytest.importorskip("openvino")
    monkeypatch.setattr(
        "pnp_ovss.engine.runners.usable_devices", lambda _: [stand_ins.device(), CPU]
    )
    for name in ("tensorrt", "tensorrt_rtx", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    built(model, backend, "vision")
    placement = open_runners(model, NOW).placement
    severities = {
        one.backend: one.severity for one in placement.passed_over if one.device == "cuda:0"
    }
    assert severities == {
        name: "warning" if name in (backend, "onnxruntime") else "note"
        for name in ("tensorrt", "tensorrt-rtx", "aotinductor", "onnxruntime")
    }
    (on_cpu,) = [one for one in placement.passed_over if one.device == "cpu"]
    assert (on_cpu.backend, on_cpu.severity) == ("aotinductor", "note")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("architecture", "severity", "reason"),
    [
        ("cpu-abacus", "warning", "is for cpu-abacus; this device is cpu-"),
        ("sm_89", "note", "no build of vision for a CPU"),
    ],
)
def test_on_a_cpu(model: ModelFolder, architecture: str, severity: str, reason: str) -> None:
    """A build for a GPU is none of its business."""
    pytest.importorskip("torch")
    built(model, "aotinductor", "vision", architectures=[architecture])
    device, found = open_runners(model, NOW).placement.passed_over[:2]
    assert (device.device, device.backend, device.severity) == ("cuda:0", None, "note")
    assert device.reason == "CuPy is not installed"
    assert (found.device, found.backend, found.severity) == ("cpu", "aotinductor", severity)
    assert reason in found.reason


def no_nvrtc(_: int) -> None:
    raise RuntimeError("failed to load libnvrtc.so.13")


@pytest.mark.parametrize(
    ("cupy", "driver", "severity", "reason"),
    [
        (None, False, "note", "CuPy is not installed"),
        (None, True, "warning", "device 'cuda:0' cannot be used: CuPy is not installed"),
        (stand_ins.cupy(stand_ins.no_driver), False, "warning", "no GPU can be used: cudaErr"),
        (stand_ins.cupy(stand_ins.no_driver), True, "warning", "no GPU can be used: cudaErrorIns"),
        (stand_ins.cupy(lambda: 0), False, "warning", "there is no device 'cuda:0'"),
        (stand_ins.cupy(lambda: 1), False, "warning", "CuPy cannot compile kernels for"),
    ],
)
def test_a_gpu_that_cannot_be_used(
    model: ModelFolder,
    monkeypatch: pytest.MonkeyPatch,
    cupy: Any,
    driver: bool,
    severity: str,
    reason: str,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr("pnp_ovss.kernels.cuda.cupy.compile_kernels", no_nvrtc)
    monkeypatch.setattr("pnp_ovss.engine.device.has_nvidia_driver", lambda: driver)
    found = open_runners(model, NOW).placement.passed_over[0]
    assert (found.device, found.backend, found.severity) == ("cuda:0", None, severity)
    assert found.reason.startswith(reason)
    assert re.search("pip install|install NVIDIA's driver", found.cure)


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_was_hidden_is_a_note(
    model: ModelFolder, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setitem(sys.modules, "cupy", stand_ins.cupy(lambda: 0))
    monkeypatch.setattr("pnp_ovss.engine.device.has_nvidia_driver", lambda: True)
    found = open_runners(model, NOW).placement.passed_over[0]
    assert (found.device, found.severity) == ("cuda:0", "note")


@pytest.mark.usefixtures("no_gpu", "no_openvino")
def test_openvino_is_not_installed(model: ModelFolder) -> None:
    placement = open_runners(model, NOW).placement
    assert (placement.backend, placement.precision) == ("onnxruntime", "fp32")
    assert placement.builds == {"vision": None, "salience": None}
    last = placement.passed_over[-1]
    assert last == PassedOver(
        "cpu", "openvino", "OpenVINO is not installed", "pip install 'pnp-ovss[openvino]'", "note"
    )


def test_what_was_named_is_all_there_is_to_tell(model: ModelFolder) -> None:
    placement = open_runners(model, NOW, backend="onnxruntime", device="cpu").placement
    none = {"vision": None, "salience": None}
    assert placement == Placement("cpu", "onnxruntime", "fp32", none)
    assert str(placement) == "on cpu with onnxruntime in fp32"
    assert pickle.loads(pickle.dumps(placement)) == placement


def test_the_least_exact_precision_is_told(exported: Any) -> None:
    pytest.importorskip("openvino")
    model = open_model(exported.folder)
    assert open_runner(model, "vision", backend="openvino").precision == "fp32"
    runners = open_runners(model, NOW, device="cpu", precision="int8")
    assert {one.precision for one in runners.loaded.values()} == {"int8"}
    assert runners.placement.precision == "int8"


def test_a_graph_that_is_loaded_later_is_told_of_then(
    exported: Any, picture: Callable[..., Image.Image]
) -> None:
    with Segmenter.load(exported.folder, backend="onnxruntime", device="cpu") as segmenter:
        assert list(segmenter.placement.builds) == ["vision", "salience"]
        settings = Settings(drop_mode="tokens", passes=2, crf=None)
        segmenter.segment(picture(), ["cat"], settings=settings)
        assert list(segmenter.placement.builds) == ["vision", "salience", "vision_tokens"]


@pytest.mark.parametrize("kind", [AbsentError, NotInstalledError])
def test_errors_can_be_pickled(kind: type[AbsentError]) -> None:
    error = kind("'m' has no build", "build it", "no build")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, str(error))
    assert (again.cause, again.cure, again.brief) == (error.cause, error.cure, error.brief)


@pytest.mark.slow
def test_a_library_user_is_told_what_is_asked_of_the_log(model: ModelFolder) -> None:
    """Nothing at all by default."""
    pytest.importorskip("torch")
    built(model, "aotinductor", "vision", architectures=["cpu-abacus"])
    code = f"""
import logging, sys
from pnp_ovss.engine import Segmenter
Segmenter.load({str(model.path)!r}, device="cpu", verify=False)
print("configured", file=sys.stderr, flush=True)
logging.basicConfig(level=logging.WARNING)
Segmenter.load({str(model.path)!r}, device="cpu", verify=False)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, told = done.stderr.splitlines()
    assert first == "configured"
    assert told.startswith("WARNING:pnp_ovss.engine.runners:passed over aotinductor on cpu: ")
