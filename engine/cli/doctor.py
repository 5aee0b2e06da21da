"""`pnp-ovss doctor`: what this machine can do, and the command that gets the rest."""

from __future__ import annotations

import importlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click

from ..device import CPU, Device, has_nvidia_driver, is_gpu_expected, open_device
from ..errors import AbsentError, BackendError, ModelError, NotInstalledError, PnpOvssError
from ..model import builds
from ..model.folder import DEMO, ModelFolder, cache_folder, open_model
from ..precision import PRECISIONS
from ..refine import crf, pydensecrf_worker
from ..runners import BACKENDS, open_runner
from .terminal import print_json, say

_PACKAGES = {
    "run-time": ("numpy", "pillow", "tokenizers", "msgspec", "click", "platformdirs"),
    "backend": ("onnxruntime", "onnxruntime-gpu", "openvino"),
    "gpu": ("cupy-cuda13x", "tensorrt", "tensorrt-rtx"),
    "crf": ("pydensecrf2",),
    "export": ("torch", "transformers", "onnx", "onnx-ir", "safetensors"),
    "evaluate": ("matplotlib", "onnx"),
    "heic": ("pillow-heif",),
    "interop": ("pycocotools", "supervision"),
}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(as_json: bool) -> int:
    """Report versions, providers and devices, what is missing and how to get it."""
    report = examine()
    if as_json:
        print_json(report)
    else:
        _show(report)
    return 0 if report["ready"] else 1


def examine() -> dict[str, Any]:
    """Examine this machine; `ready` in the report says whether images can be segmented."""
    packages = {
        group: {name: _version(name) for name in names} for group, names in _PACKAGES.items()
    }
    problems: list[dict[str, str]] = []
    gpus = _gpus()
    gpu = _gpu_device(problems)
    report = {
        "pnp-ovss": version("pnp-ovss"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "providers": _providers(packages["backend"], problems),
        "gpu": gpus,
        "cuda_headers": _cuda_headers(gpu, packages["export"]["torch"], problems),
        "backends": _backends(gpu, problems),
        "models": _models(problems),
        "problems": problems,
    }
    _check_crf(problems)
    _check_extras(packages, problems)
    report["ready"] = not any(problem["severity"] == "error" for problem in problems)
    return report


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _providers(backend: dict[str, str | None], problems: list[dict[str, str]]) -> list[str]:
    if backend["onnxruntime"] and backend["onnxruntime-gpu"]:
        _add(
            problems,
            "error",
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'pnp-ovss[gpu]'",
        )
    try:
        from ..runners.onnxruntime_sessions import available_providers
    except BackendError as error:
        severity = "note" if backend["openvino"] else "error"
        _add(problems, severity, error.cause, error.cure)
        return []
    return available_providers()


def _gpus() -> list[str]:
    """NVIDIA GPUs and their driver, as nvidia-smi names them."""
    if not has_nvidia_driver():
        return []
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return found.stdout.strip().splitlines()


def _backends(gpu: Device | None, problems: list[dict[str, str]]) -> dict[str, str]:
    """Where each backend runs, and in what; or why it does not: found out with the demo model."""
    states: dict[str, str] = {}
    try:
        demo = open_model(DEMO, verify=False)
    except ModelError:
        return states  # told of with the models
    for name, backend in BACKENDS.items():
        for device in (gpu, CPU) if gpu else (CPU,):
            if not backend.suits(device, "auto"):
                continue
            try:
                states[name] = f"runs on {device.name} in {_precisions(demo, name, device)}"
                break
            except (BackendError, ModelError) as error:
                states.setdefault(name, _why_not(name, error, problems))
        states.setdefault(name, "runs on NVIDIA GPUs, and none can be used here")
    return states


def _why_not(name: str, error: PnpOvssError, problems: list[dict[str, str]]) -> str:
    """Why a backend does not run, with the command where nothing was built.

    Anything else is a problem as well, unless its cure was told already.
    """
    if isinstance(error, AbsentError) and not isinstance(error, NotInstalledError):
        return f"{error.brief}; {error.cure}"
    if all(error.cure != told["cure"] for told in problems):
        _add(problems, "note", f"{name}: {error.cause}", error.cure)
    return error.cause


def _precisions(model: ModelFolder, backend: str, device: Device) -> str:
    """Those that a backend has, found out with the first graph of a model.

    Raises:
        BackendError, ModelError: it has none.
    """
    graph = next(iter(model.manifest.graphs))
    found: list[str] = []
    for precision in PRECISIONS:
        try:
            with device.on_stream():
                open_runner(
                    model, graph, backend=backend, device=device, precision=precision
                ).close()
            found.append(precision)
        except (BackendError, ModelError):
            if precision == "auto":
                raise
    return ", ".join(found[1:])


def _gpu_device(problems: list[dict[str, str]]) -> Device | None:
    """The first GPU; where a driver or CuPy is installed and none can be used, why."""
    try:
        return open_device("cuda:0")
    except BackendError as error:
        if is_gpu_expected(error):
            _add(problems, "warning", error.cause, error.cure)
        return None


def _cuda_headers(
    gpu: Device | None, torch: str | None, problems: list[dict[str, str]]
) -> str | None:
    """The toolkit that AOTInductor compiles against, where there are PyTorch and a GPU."""
    if not (gpu and torch):
        return None
    find_toolkit = importlib.import_module("pnp_ovss.export.build.cuda_toolkit").find_toolkit
    try:
        return str(find_toolkit().home)
    except BackendError as error:
        cause = f"aotinductor packages cannot be built for {gpu.name}: {error.cause}"
        _add(problems, "note", cause, error.cure)
        return None


def _models(problems: list[dict[str, str]]) -> dict[str, str]:
    folder = cache_folder("any/name").parent
    cached = sorted(p for p in folder.glob("*--*") if not p.name.startswith("."))
    states: dict[str, str] = {}
    for model in (DEMO, *cached):
        try:
            found = open_model(model, verify=model == DEMO)
            height, width = found.manifest.preprocess.sides
            states[str(model)] = (
                f"{found.manifest.checkpoint.source}, {height}x{width} px{_builds(found)}"
            )
        except (ModelError, BackendError) as error:
            states[str(model)] = "damaged"
            severity = "error" if model == DEMO else "warning"
            _add(problems, severity, error.cause, error.cure)
    return states


def _builds(model: ModelFolder) -> str:
    recipes = [one.record.recipe for one in builds.recorded(model)]
    built = {f"{one.target} {one.precision} for {'+'.join(one.architectures)}" for one in recipes}
    return f"; builds: {', '.join(sorted(built))}" if built else ""


def _check_crf(problems: list[dict[str, str]]) -> None:
    try:
        crf.require("densecrf")
    except BackendError as error:
        _add(problems, "error", error.cause, error.cure)


def _check_extras(
    packages: dict[str, dict[str, str | None]], problems: list[dict[str, str]]
) -> None:
    for extra, use, cure in (
        ("crf", "--crf pydensecrf", pydensecrf_worker.CURE),
        ("export", "exporting checkpoints", "pip install 'pnp-ovss[export]'"),
        ("evaluate", "figures and ablations", "pip install 'pnp-ovss[evaluate]'"),
        ("heic", "HEIC images", "pip install 'pnp-ovss[heic]'"),
        ("interop", "COCO RLE and supervision", "pip install 'pnp-ovss[interop]'"),
    ):
        missing = [name for name, found in packages[extra].items() if found is None]
        if missing:
            _add(problems, "note", f"not installed, for {use}: {', '.join(missing)}", cure)


def _add(problems: list[dict[str, str]], severity: str, cause: str, cure: str) -> None:
    problems.append({"severity": severity, "cause": cause, "cure": cure})


def _show(report: dict[str, Any]) -> None:
    rows = [
        ("pnp-ovss", report["pnp-ovss"]),
        ("Python", f"{report['python']} on {report['platform']}"),
    ]
    for group, packages in report["packages"].items():
        found = [f"{name} {number}" for name, number in packages.items() if number]
        rows.append((group, ", ".join(found) or "-"))
    rows.append(("providers", ", ".join(report["providers"]) or "-"))
    rows.append(("GPU", "; ".join(report["gpu"]) or "none found with nvidia-smi"))
    if report["cuda_headers"]:
        rows.append(("headers", report["cuda_headers"]))
    rows += [("model", f"{name}: {state}") for name, state in report["models"].items()]
    rows += [("backend", f"{name}: {state}") for name, state in report["backends"].items()]
    for name, value in rows:
        say(f"{name:<10} {value}")
    for problem in report["problems"]:
        say(f"\n{problem['severity']}: {problem['cause']}\n  {problem['cure']}")
    say("\nready" if report["ready"] else "\nnot ready")
