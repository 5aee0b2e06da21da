"""TensorRT and TensorRT-RTX: one API, and the few places where the two differ.

TensorRT times kernels on the GPU at hand and builds for that one; TensorRT-RTX builds ahead of time
for GPUs that need not be there, and compiles its kernels where it runs. In both, networks are
strongly typed: the ONNX file decides the precision.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Literal, get_args

from ..errors import BackendError, NotInstalledError, cannot_import

Target = Literal["tensorrt", "tensorrt-rtx"]

_OLDEST = {"tensorrt": (11, 0), "tensorrt-rtx": (1, 5)}
_KEPT = 20  # messages


@dataclass(frozen=True)
class TensorRT:
    """One of the two libraries.

    Attributes:
        target: which.
        trt: its module, for all that is the same in both.
        logger: an `ILogger` that prints nothing. A process has one; `said` reads it.
        version: as the library gives it, "1.7.1.116" and the like.
    """

    target: Target
    trt: ModuleType
    logger: Any
    version: str

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT-RTX."""
        return self.target == "tensorrt-rtx"

    def said(self) -> str:
        """The errors that the library has logged since this was last asked, in one line."""
        messages = [" ".join(message.split()) for message in self.logger.messages]
        self.logger.messages.clear()
        # where there is no GPU, TensorRT-RTX adds that to whatever else is wrong
        causes = [message for message in messages if "catchCudaError" not in message]
        return "; ".join(dict.fromkeys(causes or messages))

    def named_architectures(self) -> list[str]:
        """Those that it can build for without such a GPU: "sm_86" and the like."""
        if not self.rtx:
            return []
        names = self.trt.ComputeCapability.__members__
        return [f"sm_{name[2:]}" for name in names if re.fullmatch(r"SM\d+", name)]

    def builder_config(self, builder: Any, architectures: Sequence[str], timings: bytes) -> Any:
        """An `IBuilderConfig`.

        Args:
            builder: a `Builder`.
            architectures: to build for; TensorRT builds for the thread's current GPU.
            timings: what `timings` returned for an earlier build, or b"".
        """
        config = builder.create_builder_config()
        config.clear_flag(self.trt.BuilderFlag.TF32)  # about 1e-3 off; on by default
        if self.rtx:
            config.set_flag(self.trt.BuilderFlag.REQUIRE_USER_ALLOCATION)  # for CUDA graphs
            config.num_compute_capabilities = len(architectures)
            for index, name in enumerate(architectures):
                capability = getattr(self.trt.ComputeCapability, name.upper().replace("_", ""))
                config.set_compute_capability(capability, index)
        else:
            config.set_timing_cache(config.create_timing_cache(timings), ignore_mismatch=False)
        return config

    def timings(self, config: Any) -> bytes:
        """How fast a build found kernels to be; b"" for TensorRT-RTX, which times none."""
        return b"" if self.rtx else bytes(config.get_timing_cache().serialize())

    def runtime_config(self, engine: Any, kernels: bytes = b"") -> Any:
        """An `IRuntimeConfig`, from which the contexts of an engine are made.

        Args:
            engine: an `ICudaEngine`; its GPU must be the thread's current one.
            kernels: what `kernels` returned; not used where it is of another GPU or version.
        """
        config = engine.create_runtime_config()
        if self.rtx:
            # all kernels of a shape at its first run: none is compiled while a graph is captured
            strategies = self.trt.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
            compiled = config.create_runtime_cache()
            if kernels:
                compiled.deserialize(kernels)
            config.set_runtime_cache(compiled)
        return config

    def capturable(self, context: Any, stream: int) -> bool:
        """Whether what a context queues on a stream may be recorded; asked after a first run."""
        return not self.rtx or context.is_stream_capturable(stream)

    def kernels(self, config: Any) -> bytes:
        """What was compiled for contexts of an `IRuntimeConfig`; b"" for TensorRT."""
        return bytes(config.get_runtime_cache().serialize()) if self.rtx else b""


def require(target: str) -> None:
    """Find out whether the library of a target is installed, without loading it.

    Raises:
        BackendError: it is not.
    """
    if importlib.util.find_spec(target.replace("-", "_")) is None:
        raise NotInstalledError(f"{target} is not installed", _install(target))


@cache
def load(target: str) -> TensorRT:
    """Import the library of a target.

    Raises:
        BackendError: it is not installed, cannot be loaded, or is too old.
    """
    if target not in get_args(Target):
        raise BackendError(f"unknown target {target!r}", f"use {' or '.join(get_args(Target))}")
    install = _install(target)
    try:
        trt = importlib.import_module(target.replace("-", "_"))
    except (ImportError, OSError) as error:  # OSError where the library itself cannot be loaded
        raise cannot_import(target, target.replace("-", "_"), error, install) from error
    oldest = _OLDEST[target]
    if tuple(int(part) for part in trt.__version__.split(".")[:2]) < oldest:
        raise BackendError(
            f"{target} {trt.__version__} is older than {'.'.join(map(str, oldest))}", install
        )
    return TensorRT(target, trt, _logger(trt), trt.__version__)  # type: ignore[arg-type]


def _install(target: str) -> str:
    return f"pip install --upgrade 'pnp-ovss[{target}]'"


def _logger(trt: ModuleType) -> Any:
    class Logger(trt.ILogger):
        """Keeps the last errors, and the warnings that say how much memory was wanted."""

        def __init__(self) -> None:
            super().__init__()
            self.messages: deque[str] = deque(maxlen=_KEPT)

        def log(self, severity: Any, message: str) -> None:
            if severity in (self.ERROR, self.INTERNAL_ERROR) or (
                severity == self.WARNING and "memory" in message
            ):
                self.messages.append(message)

    return Logger()
