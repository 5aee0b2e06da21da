"""A GPU that is not there, for PyTorch's compiler: it makes the kernels of one, and runs none.

PyTorch has no supported way to compile for a GPU that is absent. So what its compiler asks of CUDA
is answered here for an H100: tensors are fake, Triton compiles for sm_90, the tuning of kernels
takes the first choice. What is made is what a real H100 would get, but for choices by measured
time, and for small constants, which stay tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import onnx_ir as ir
import torch
from torch._dynamo.device_interface import CudaInterface
from torch._guards import TracingContext, tracing
from torch._inductor import config
from torch._inductor.codegen.wrapper import PythonWrapperCodegen
from torch._inductor.fx_passes import misc_patterns
from torch._inductor.fx_passes.joint_graph import UniformValueConstantFolder
from torch._inductor.runtime.triton_heuristics import CachingAutotuner
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

from pnp_ovss.export.build import aotinductor, torch_graph, torch_operators

CAPABILITY = (9, 0)
ARCHITECTURE = 90
DEVICE = "cuda:0"

_PROPERTIES = SimpleNamespace(
    name="NVIDIA H100",
    major=CAPABILITY[0],
    minor=CAPABILITY[1],
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    total_memory=80 << 30,
    L2_cache_size=50 << 20,
    shared_memory_per_block=48 << 10,
    shared_memory_per_block_optin=227 << 10,
    gcnArchName="",
)


class _Utils:
    """Of Triton's driver: loads no binary, and says what one would take."""

    @staticmethod
    def get_device_properties(_: int) -> dict[str, int]:
        return {
            "max_shared_mem": _PROPERTIES.shared_memory_per_block_optin,
            "max_num_regs": _PROPERTIES.regs_per_multiprocessor,
            "multiprocessor_count": _PROPERTIES.multi_processor_count,
            "warpSize": _PROPERTIES.warp_size,
        }

    @staticmethod
    def load_binary(*_: Any) -> tuple[int, int, int, int, int]:
        return 0, 0, 32, 0, _PROPERTIES.max_threads_per_block

    @staticmethod
    def unload_module(_: int) -> None:
        pass


class _Driver:
    """Of Triton."""

    utils = _Utils()

    @staticmethod
    def is_active() -> bool:
        return True

    @staticmethod
    def launcher_cls(*_: Any) -> Callable[..., None]:
        return lambda *_: None

    @staticmethod
    def get_current_target() -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", ARCHITECTURE, _PROPERTIES.warp_size)

    @staticmethod
    def get_current_device() -> int:
        return 0

    @staticmethod
    def get_current_stream(_: int | None = None) -> int:
        return 0

    @staticmethod
    def get_active_torch_device() -> torch.device:
        return torch.device(DEVICE)


_CUDA: dict[str, Any] = {
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_properties": lambda *_: _PROPERTIES,
    "get_device_capability": lambda *_: CAPABILITY,
    "get_device_name": lambda *_: _PROPERTIES.name,
    "set_device": lambda *_: None,
    "synchronize": lambda *_: None,
    "_exchange_device": lambda *_: 0,
    "_maybe_exchange_device": lambda *_: 0,
}

_OPTIONS = {
    "always_keep_tensor_constants": True,  # to write one into the code, it must be read
    "compile_threads": 1,  # in this process: others know nothing of the pretence
    "shape_padding": False,  # products are timed for it
    "triton.autotune_at_compile_time": True,
}


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float) -> Any:
    """What `scaled_dot_product_attention` is there without cuDNN's; to ask it, a GPU must be."""
    if query.dtype == torch.float32:
        fused = torch.ops.aten._scaled_dot_product_efficient_attention
        return fused(query, key, value, None, False, scale=scale)[0]
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)[0]


@contextmanager
def pretended_gpu(options: dict[str, Any]) -> Iterator[None]:
    """Let `aotinductor.compile_graph` compile for "cuda:0" meanwhile.

    Args:
        options: more of PyTorch's compiler.
    """
    from triton.backends import backends
    from triton.runtime import driver

    nvidia = type(backends["nvidia"])(
        compiler=backends["nvidia"].compiler, driver=cast(Any, _Driver)
    )
    weights = FakeTensorMode(
        allow_non_fake_inputs=True, export=True, shape_env=ShapeEnv(tracked_fakes=[])
    )
    with ExitStack() as stack:

        def replace(owner: Any, **values: Any) -> None:
            for name, value in values.items():
                stack.enter_context(patch.object(owner, name, value, create=True))

        replace(torch.cuda, **_CUDA)
        replace(torch.cuda, _lazy_init=lambda: None)
        replace(torch._C, _cuda_getCurrentRawStream=lambda *_: 0)
        asked = {name.removeprefix("_"): staticmethod(value) for name, value in _CUDA.items()}
        replace(CudaInterface, **asked, is_available=staticmethod(lambda: True))
        replace(CudaInterface, get_raw_stream=staticmethod(lambda *_: 0))
        stack.enter_context(patch.dict(backends, nvidia=nvidia))
        stack.callback(driver.reset_active)
        driver.set_active(cast(Any, _Driver()))
        replace(CachingAutotuner, benchmark_all_configs=_first)
        tune = PythonWrapperCodegen.generate_and_run_autotune_block
        replace(PythonWrapperCodegen, generate_and_run_autotune_block=_under(FakeTensorMode, tune))
        replace(torch_operators.functional, scaled_dot_product_attention=_attention)
        replace(aotinductor, torch_module=partial(_fake_module, weights))
        stack.enter_context(config.patch(_OPTIONS | options))
        stack.enter_context(tracing(TracingContext(weights)))
        # inputs are of another mode than weights: only so do they vary in size
        fold = UniformValueConstantFolder._deduce_value
        replace(UniformValueConstantFolder, _deduce_value=_under(_OnTheCpu, fold))
        replace(
            misc_patterns, _misc_patterns_init=lambda *_: None
        )  # a build for CPUs has none of it
        replace(aotinductor, _example_inputs=_under(FakeTensorMode, aotinductor._example_inputs))
        yield


def _first(autotuner: Any, *_: Any, **__: Any) -> dict[Any, float]:
    """Times of kernels with other block sizes: the first is taken."""
    return {launcher: float(index) for index, launcher in enumerate(autotuner.launchers)}


class _OnTheCpu(TorchDispatchMode):
    """Computes the constants that are folded."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        return function(*args, **kwargs)


def _under(mode: Callable[[], Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any) -> Any:
        with mode():
            return function(*args)

    return run


def _fake_module(mode: FakeTensorMode, source: ir.Model, shared: str | None) -> torch.nn.Module:
    """The module, with weights that are fake."""
    module = torch_graph.torch_module(source, shared)
    with mode:
        return module.to(DEVICE)
