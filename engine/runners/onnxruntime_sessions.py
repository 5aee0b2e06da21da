"""Sessions of ONNX Runtime: on the CPU, or on an NVIDIA GPU through a provider.

What a provider does not take, and everything where it does not load, ONNX Runtime leaves to the CPU
without a word. Here that is an error.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..device import Device
from ..errors import BackendError, ModelError, PnpOvssError, cannot_import, lacks_resources, reason
from ..model.folder import record_of
from ..model.signature import Profile, Role, Signature, Tensor
from ..paths import user_cache
from ..precision import NO_TF32
from .telemetry import without_onnxruntime_telemetry

try:
    with without_onnxruntime_telemetry():
        import onnxruntime as ort
except ImportError as _error:
    raise cannot_import(
        "ONNX Runtime",
        "onnxruntime",
        _error,
        "pip install 'pnp-ovss[cpu]' (or 'pnp-ovss[gpu]' for NVIDIA GPUs)",
    ) from _error

_CPU = "CPUExecutionProvider"
# The package to upgrade: the other one would overwrite its files.
_PACKAGE = (
    "onnxruntime-gpu" if "CUDAExecutionProvider" in ort.get_available_providers() else "onnxruntime"
)
# For GPUs: of earlier ones, a CUDA graph reads buffers of the host that are freed, in GatherND and,
# once other shapes have run, in Concat and MatMul (microsoft/onnxruntime#32120, #32121).
_OLDEST = (1, 31)
_PRODUCTS = {"Conv", "Gemm", "MatMul"}  # shapes may be worked out on the CPU, these may not be
_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}

Options = dict[str, str]


@dataclass(frozen=True)
class SessionSpec:
    """What a session on a GPU is made from.

    Attributes:
        path: path of the ONNX file.
        device: device of the session.
        profiles: shapes that the session will run.
        capture: whether CUDA graphs are recorded.
        digest: digest of the graph and its weights, for the provider's cache.
    """

    path: Path
    device: Device
    profiles: Sequence[Profile]
    capture: bool
    digest: str


@dataclass(frozen=True)
class Provider:
    """An execution provider of ONNX Runtime, which runs a session on a GPU.

    Attributes:
        name: name of the provider in ONNX Runtime.
        options: function that gives the provider's options for a session.
        cure: command that installs the provider.
        captures: whether the provider can record CUDA graphs.
        plugin: module that brings the provider; empty where ONNX Runtime itself does.
        needs: module whose import loads libraries that the provider links; empty for none.
    """

    name: str
    options: Callable[[SessionSpec], Options]
    cure: str
    captures: bool = False
    plugin: str = ""
    needs: str = ""


def available_providers() -> list[str]:
    """List the providers of this build of ONNX Runtime, best first."""
    return ort.get_available_providers()


def open_on_cpu(path: Path, threads: int | None = None) -> ort.InferenceSession:
    """Open a session on the CPU.

    Args:
        path: path of the ONNX file.
        threads: number of threads that the session may use; None leaves it to ONNX Runtime.

    Raises:
        ModelError: ONNX Runtime refuses the file.
    """
    options = _session_options()
    # its threads share the processors with those of the CRF, and must not spin while they wait
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # weights stay in the mapped file, shared by processes and loaded at once, for 5 % of speed
    options.add_session_config_entry("session.disable_prepacking", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(str(path), options, providers=[_CPU], enable_fallback=0)
    except Exception as error:  # the library's exceptions share no base of their own
        raise lacks_resources(error) or ModelError(
            f"ONNX Runtime cannot load '{path}': {reason(error)}",
            f"upgrade it (pip install --upgrade {_PACKAGE}) or export the model again",
        ) from error


def open_on_gpu(provider: Provider, spec: SessionSpec) -> ort.InferenceSession:
    """Open a session on a GPU.

    Raises:
        BackendError: the provider is missing, does not load, or leaves work to the CPU.
    """
    if not provider.plugin and provider.name not in available_providers():
        raise _missing(provider, spec.device, "this build of it has none")
    if tuple(int(part) for part in ort.__version__.split(".")[:2]) < _OLDEST:
        raise _missing(provider, spec.device, f"version {ort.__version__} is too old")
    options = _session_options()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # with them, the run that is recorded may allocate otherwise than the one before it
    options.enable_mem_pattern = not spec.capture
    try:
        session = _start(provider, spec, options)
    except PnpOvssError:
        raise
    except Exception as error:  # as above
        raise _missing(provider, spec.device, reason(error)) from error
    check_provider(session, provider, spec.device)
    return session


def check_provider(session: ort.InferenceSession, provider: Provider, device: Device) -> None:
    """Check that a session runs on its provider.

    Raises:
        BackendError: the provider did not load, or matrix products were left to the CPU.
    """
    if provider.name not in session.get_providers():
        raise _missing(provider, device, "it did not load")
    left = [
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if part.ep_name == _CPU and node.op_type in _PRODUCTS
    ]
    if left:
        raise _missing(provider, device, f"it leaves {len(left)} matrix products to the CPU")


def signature(session: ort.InferenceSession, roles: Mapping[str, Role] | None = None) -> Signature:
    """Read the inputs and outputs of a session; the roles of dimensions are given.

    A dtype that no model of this package has keeps ONNX Runtime's name.
    """

    def tensors(values: Sequence[Any]) -> dict[str, Tensor]:
        return {
            one.name: Tensor(
                _DTYPES.get(one.type) or str(one.type),
                tuple(size if isinstance(size, int) else str(size) for size in one.shape),
            )
            for one in values
        }

    return Signature(
        inputs=tensors(session.get_inputs()),
        outputs=tensors(session.get_outputs()),
        roles=dict(roles or {}),
    )


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def _start(
    provider: Provider, spec: SessionSpec, options: ort.SessionOptions
) -> ort.InferenceSession:
    if provider.plugin:
        device = _plugged_in(provider, spec.device)
        options.add_provider_for_devices([device], provider.options(spec))
        return ort.InferenceSession(str(spec.path), options, enable_fallback=0)
    ort.preload_dlls()  # finds CUDA and cuDNN installed as Python packages
    if provider.needs:
        with suppress(ImportError):  # they may be installed otherwise
            importlib.import_module(provider.needs)
    chosen: list[Any] = [(provider.name, provider.options(spec)), _CPU]
    if provider is not CUDA:
        chosen.insert(1, (CUDA.name, CUDA.options(spec)))  # for what the first does not take
    return ort.InferenceSession(str(spec.path), options, providers=chosen, enable_fallback=0)


def _plugged_in(provider: Provider, device: Device) -> Any:
    """Find the `OrtEpDevice` of a plugged-in provider for a device."""
    try:
        plugin = importlib.import_module(provider.plugin)
    except ImportError as error:
        raise _missing(provider, device, reason(error)) from error
    _register(provider.name, plugin.get_library_path())
    found = [one for one in ort.get_ep_devices() if one.ep_name == provider.name]
    if device.index is None or device.index >= len(found):
        raise _missing(provider, device, f"it finds {len(found)} GPUs that it can use")
    return found[device.index]


@cache
def _register(name: str, library: str) -> None:
    """Register a provider's library once, as a second time is an error to ONNX Runtime."""
    ort.register_execution_provider_library(name, library)


def _missing(provider: Provider, device: Device, why: str, cure: str = "") -> BackendError:
    return BackendError(
        f"ONNX Runtime cannot use its {provider.name} on {device.name}: {why}",
        cure or provider.cure,
    )


def _stream(spec: SessionSpec) -> Options:
    """Return the options that share the kernels' stream with the provider."""
    return {"has_user_compute_stream": "1", "user_compute_stream": str(spec.device.stream.ptr)}


def _cuda(spec: SessionSpec) -> Options:
    return {
        "device_id": str(spec.device.index),
        **_stream(spec),
        "use_tf32": "0",  # about 1e-3 off
        "cudnn_conv_algo_search": "HEURISTIC",  # the default search repeats for every shape
        "cudnn_conv_use_max_workspace": "0",  # there is one convolution, and it is small
        "arena_extend_strategy": "kSameAsRequested",  # by default memory is doubled
        "enable_cuda_graph": str(int(spec.capture)),
    }


def _tensorrt(spec: SessionSpec) -> Options:
    _require_no_tf32()
    cache = _cache(spec)
    return {
        "device_id": str(spec.device.index),
        **_stream(spec),
        **_ranges(spec, "trt_profile"),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
    }


def _tensorrt_rtx(spec: SessionSpec) -> Options:
    _require_no_tf32()
    return {
        **_stream(spec),
        **_ranges(spec, "nv_profile"),
        "nv_runtime_cache_path": _cache(spec),
    }


def _ranges(spec: SessionSpec, prefix: str) -> Options:
    """Return all shapes as one range; the provider builds an engine anew for shapes outside."""
    inputs = signature(open_on_cpu(spec.path)).inputs  # that the file alone knows
    low, high = (
        {name: pick(one[name] for one in spec.profiles) for name in spec.profiles[0]}
        for pick in (min, max)
    )

    def shapes(sizes: Profile) -> str:
        return ",".join(
            f"{name}:{'x'.join(map(str, tensor.sized(sizes)))}" for name, tensor in inputs.items()
        )

    return {
        f"{prefix}_min_shapes": shapes(low),
        f"{prefix}_opt_shapes": shapes(high),
        f"{prefix}_max_shapes": shapes(high),
    }


def _cache(spec: SessionSpec) -> str:
    """Make a cache folder for what is compiled of this graph alone.

    TensorRT's provider tells graphs apart by their nodes, not by their weights.
    """
    digest = spec.digest or record_of(spec.path).sha256
    folder = user_cache() / "onnxruntime" / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def _require_no_tf32() -> None:
    """Check that TF32 is off: these providers have no option for it, only the environment has.

    Raises:
        BackendError: it is on.
    """
    if os.environ.get(NO_TF32) != "0":
        raise BackendError(
            f"{NO_TF32} is not 0, and this provider would compute in TF32, about 1e-3 off",
            f"set {NO_TF32}=0 in the environment before the process starts",
        )


CUDA = Provider(
    "CUDAExecutionProvider",
    _cuda,
    "check the driver with nvidia-smi; then"
    " pip uninstall -y onnxruntime && pip install --upgrade 'pnp-ovss[gpu]'",
    captures=True,
)
TENSORRT = Provider(
    "TensorrtExecutionProvider",
    _tensorrt,
    "it links TensorRT 10: pip uninstall -y onnxruntime tensorrt"
    " && pip install 'pnp-ovss[gpu]' 'tensorrt-cu13<11'",
    needs="tensorrt",
)
TENSORRT_RTX = Provider(
    "NvTensorRTRTXExecutionProvider",
    _tensorrt_rtx,
    f"pip install --upgrade {_PACKAGE} onnxruntime-ep-nv-tensorrt-rtx-cu13",
    plugin="onnxruntime_ep_nv_tensorrt_rtx",
)
PROVIDERS = {"cuda": CUDA, "tensorrt": TENSORRT, "tensorrt-rtx": TENSORRT_RTX}
