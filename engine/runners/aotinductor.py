"""Run packages of AOTInductor: graphs that PyTorch compiled for the CPU or for a GPU.

This is the only part of the run-time that uses PyTorch. It is imported when a package is opened.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import platform
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..device import CPU, Array, Device
from ..errors import (
    BackendError,
    ExecutionError,
    NotInstalledError,
    cannot_import,
    model_closed,
    reason,
)
from ..fork import inherited
from ..model import builds
from ..model.builds import Recipe
from ..model.folder import ModelFolder
from ..model.signature import Signature
from ..precision import Arithmetic, PrecisionChoice
from .torch_graphs import Shapes, TorchGraphs

INSTALL = "pip install 'pnp-ovss[aotinductor]'"
TARGET = "aotinductor"
LARGEST = 128  # images, or captions of one, in a call: a GPU's kernels count in 32 bits
CPU_OPTION = "cpp.march"  # of PyTorch's compiler: the CPU that the C++ is for

CPUS = Path("/proc/cpuinfo")


def open_build(
    model: ModelFolder,
    graph: str,
    device: Device,
    precision: PrecisionChoice,
    threads: int | None = None,
) -> AotInductorRunner:
    """Load the package of a graph that was compiled for a device.

    Args:
        model: model folder.
        graph: name of the graph in the manifest.
        device: device of the package.
        precision: precision of the package.
        threads: number of threads that the graph may use on the CPU.

    Raises:
        BackendError: PyTorch is not installed or uses more threads, the model has no such package,
            or it cannot be loaded.
    """
    if importlib.util.find_spec("torch") is None:
        raise NotInstalledError("PyTorch is not installed", INSTALL)
    path, recipe = builds.find(
        model,
        graph,
        target=TARGET,
        architecture=lambda: _usable_architecture(device),
        version=lambda: str(load_torch().__version__),
        precision=precision,
        device=device.name,
    )
    torch = load_torch()
    if inherited("torch"):
        # The other threads of its parallel loops are the parent's, and would be waited for.
        torch.set_num_threads(1)
    _require_threads(torch, device, threads)
    return AotInductorRunner(torch, path, recipe, device, model.graph(graph))


def _usable_architecture(device: Device) -> str:
    torch = load_torch()  # which takes a while
    require_cuda(torch, device)
    return architecture(torch, device)


def load_torch() -> Any:
    """Import the module `torch`.

    Raises:
        BackendError: PyTorch is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError where one of its libraries cannot be loaded
        raise cannot_import("PyTorch", "torch", error, INSTALL) from error


def require_cuda(torch: Any, device: Device) -> None:
    """Check that PyTorch can use a device.

    Raises:
        BackendError: the device is a GPU, and this build of PyTorch cannot use GPUs.
    """
    if device is not CPU and not torch.cuda.is_available():
        raise BackendError(
            f"PyTorch {torch.__version__} cannot use {device.name}",
            "install a build of it for CUDA: https://pytorch.org/get-started",
        )


def _require_threads(torch: Any, device: Device, threads: int | None) -> None:
    """Check that PyTorch uses no more threads; it has one number of them for the whole process.

    Raises:
        BackendError: it uses more.
    """
    if device is CPU and threads is not None and torch.get_num_threads() > threads:
        raise BackendError(
            f"PyTorch uses {torch.get_num_threads()} threads, and {threads} were asked for",
            f"set OMP_NUM_THREADS={threads} in the environment before the process starts",
        )


def architecture(torch: Any, device: Device) -> str:
    """Name what a package for a device runs on: "sm_89", "cpu-x86_64-avx512" and the like.

    PyTorch 2.11 always compiles C++ for the CPU at hand, and so does a package for a GPU. Then the
    name ends in a digest of that CPU.
    """
    name = device.architecture
    if device is CPU:
        name = f"cpu-{platform.machine()}-{torch.backends.cpu.get_cpu_capability().lower()}"
    return name if CPU_OPTION in torch._inductor.list_options() else f"{name}-{_this_cpu()}"


def _this_cpu() -> str:
    """Make a digest of the processor's name and instructions."""
    facts = {platform.processor()}
    if CPUS.exists():
        lines = CPUS.read_text().splitlines()
        facts = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return hashlib.sha256("\n".join(sorted(facts)).encode()).hexdigest()[:8]


class AotInductorRunner:
    """A package, which takes any batch up to `LARGEST` and captions of any length.

    On a GPU, a CUDA graph is recorded of each shape that comes twice.

    Args:
        torch: the module `torch`.
        path: path of the package.
        recipe: what the package was compiled from and for.
        device: device that the package was compiled for.
        signature: signature of the graph.

    Attributes:
        precision: Precision of the package.
        build: File name of the package.

    Raises:
        BackendError: PyTorch refuses the package.
    """

    def __init__(
        self, torch: Any, path: Path, recipe: Recipe, device: Device, signature: Signature
    ) -> None:
        self.device = device
        self.precision: Arithmetic = recipe.precision
        self.build: str | None = path.name
        self._signature = signature
        self._by_image = _rows_by_image(signature)
        self._torch = torch
        try:
            # On a GPU one run is queued behind another; else each would wait for the last to end.
            package = torch._inductor.aoti_load_package(
                str(path),
                run_single_threaded=device.index is not None,
                device_index=-1 if device.index is None else device.index,
            )
        except RuntimeError as error:
            raise BackendError(
                f"PyTorch {torch.__version__} cannot load '{path}' on {device.name}:"
                f" {reason(error)}",
                "free space where temporary files go (TMPDIR), as it is unpacked there; or build it"
                " again: pnp-ovss build --overwrite",
            ) from error
        self._package: Any = package if device is CPU else TorchGraphs(torch, package)

    @property
    def captured(self) -> list[tuple[Shapes, bool]]:
        """Shapes that ran last, and whether each replays a CUDA graph."""
        return self._package.captured if isinstance(self._package, TorchGraphs) else []

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """See `Runner.run`."""
        if self._package is None:
            raise model_closed()
        try:
            with self._on_stream():
                found = self._package(**self._inputs(feeds))
                return {name: self._from_torch(found[name]) for name in outputs or found}
        except RuntimeError as error:
            raise ExecutionError(
                f"PyTorch failed on {self.device.name}: {reason(error)}",
                "if memory ran out, or there are too many rows, take a smaller --batch-size;"
                " else build the package again",
            ) from error

    def close(self) -> None:
        """See `Runner.close`."""
        if self.device is not CPU:
            self.device.stream.synchronize()
        self._package = None

    def _inputs(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """View arrays as tensors; where rows may share images, as [images, rows of each, ...].

        Raises:
            ExecutionError: the package takes no such arrays; it would not check them itself.
        """
        self._signature.sizes(feeds)
        shapes = {name: feeds[name].shape for name in self._signature.inputs}
        for name, shared in self._by_image.items():
            images = max(1, len(feeds[shared]))
            shapes[name] = (images, len(feeds[name]) // images, *feeds[name].shape[1:])
        for name, tensor in self._signature.inputs.items():
            rows = max(shapes[name][: 2 if name in self._by_image else 1])
            if feeds[name].dtype != tensor.dtype or not 0 < rows <= LARGEST:
                raise ExecutionError(
                    f"{name} is {feeds[name].dtype} {list(feeds[name].shape)}",
                    f"it must be {tensor.dtype}, with 1 to {LARGEST} images or captions of one",
                )
        return {name: self._to_torch(value).view(shapes[name]) for name, value in feeds.items()}

    def _to_torch(self, value: Array) -> Any:
        """View an array as a tensor of one axis, as strides of axes of size 1 may be anything."""
        flat = value.ravel()
        if self.device is CPU:
            return self._torch.from_numpy(np.require(flat, requirements="W"))
        return self._torch.from_dlpack(flat)

    def _from_torch(self, tensor: Any) -> Array:
        if self.device is CPU:
            return tensor.numpy()
        return self.device.xp.from_dlpack(tensor.contiguous())  # kernels take its address

    def _on_stream(self) -> Any:
        if self.device is CPU:
            return nullcontext()
        stream = self._torch.cuda.ExternalStream(self.device.stream.ptr, self.device.name)
        return self._torch.cuda.stream(stream)


def _rows_by_image(signature: Signature) -> dict[str, str]:
    """List inputs with a row for each caption, and for each an input with one for each image."""
    rows, shared = signature.dimension("rows"), signature.dimension("shared")
    first = {name: tensor.shape[0] for name, tensor in signature.inputs.items()}
    images = next((name for name, size in first.items() if shared and size == shared), None)
    return {name: images for name, size in first.items() if images and size == rows}
