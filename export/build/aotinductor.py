"""Builds the graphs of a model folder as packages of PyTorch's AOTInductor."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor
from torch._inductor.exc import CppCompileError, InvalidCxxCompiler
from torch._inductor.utils import fresh_cache
from torch.export import Dim
from torch.fx.experimental import _config
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...engine.device import CPU, Device, open_device, usable_devices
from ...engine.errors import BackendError, ExecutionError, PnpOvssError, reason
from ...engine.model import builds
from ...engine.model.builds import Build, Recipe
from ...engine.model.folder import ModelFolder
from ...engine.model.signature import PADDED, Graph, Role
from ...engine.precision import Precision
from ...engine.runners.aotinductor import CPU_OPTION, LARGEST, TARGET, architecture, require_cuda
from ..graphs.loading import load
from ..graphs.precision import convert
from .cuda_toolkit import compiling_for_cuda
from .store import build_once
from .torch_graph import EACH, input_shapes, torch_module
from .torch_operators import DTYPES

# Sizes of the dynamic dimensions in tracing, for which kernels are chosen. The code takes any size.
_TYPICAL: dict[Role, int] = {"rows": 4, "shared": 4, "padded": 16, "classes": 4}
_TYPICAL_EACH = 2  # captions of an image, in graphs whose captions may share images

_OPTIONS = {
    # The package runs on every CPU of its architecture, not only on CPUs like this machine's.
    # PyTorch 2.11 lacks the option: its package is for this CPU only, see `architecture`.
    CPU_OPTION: "",
    # A package compiles its header once, so precompiling gains nothing (and 2.11 needs OpenSSL).
    "aot_inductor.precompile_headers": False,
    # Sizes of 1 compute correctly, but this check would refuse them.
    "aot_inductor.check_lowerbound": False,
}


# Without cuDNN's attention, the default on an H100: it makes a plan for each shape and thread.
_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def build(
    model: ModelFolder,
    *,
    target: str = TARGET,
    precision: Precision | None = None,
    batches: Sequence[int] = (),
    tokens: Sequence[int] | None = None,
    architectures: Sequence[str] = (),
    drop_mode: str = "pixels",
    graphs: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Build]:
    """Compile the graphs of a model to packages, unless the packages exist.

    A package takes any shape.

    Args:
        model: model folder; packages are written to its folder `builds/`.
        target: target, "aotinductor".
        precision: precision of the arithmetic; by default fp16 for a GPU, fp32 for the CPU.
        batches: batch sizes, which have no effect: a package takes any batch size.
        tokens: caption lengths, which have no effect: a package takes any length.
        architectures: GPU architectures, which must be empty: packages are compiled for a device of
            this machine.
        drop_mode: drop mode whose graphs are compiled.
        graphs: names of the graphs to compile, instead of the drop mode's graphs.
        device: device of this machine to compile for: "cpu", "cuda" or "cuda:N". "auto" is the
            first GPU, or the CPU of a machine without a GPU.
        overwrite: whether existing packages are compiled again.
        say: function that is called with a message at each step.

    Returns:
        The package of each graph, in the order of `graphs_to_build`.

    Raises:
        ModelError: the model folder is damaged.
        BackendError: the device, a C++ compiler or a recent PyTorch is missing; or architectures
            were given.
        InputError: the model has no such graph.
        ExecutionError: a graph cannot be compiled.
        OutputError: a package cannot be written.
    """
    if architectures:
        raise BackendError(
            f"{target} compiles for a device of this machine, not for {', '.join(architectures)}",
            "leave --compute-capability out, and choose with --device cuda:N",
        )
    if "aot_inductor.check_lowerbound" not in torch._inductor.list_options():
        raise BackendError(
            f"PyTorch {torch.__version__} is too old to compile for any number of images",
            "pip install --upgrade 'pnp-ovss[aotinductor]'",
        )
    if device == "auto":
        opened = usable_devices(lambda error: say(f"not for a GPU: {error.cause}"))[0]
    else:
        opened = open_device(device)
    require_cuda(torch, opened)
    built: list[Build] = []
    for graph in builds.graphs_to_build(model, {"drop_mode": drop_mode}, graphs):
        recipe = Recipe(
            target=target,
            graph=graph,
            precision=precision or ("fp32" if opened is CPU else "fp16"),
            graph_sha256=builds.graph_sha256(model, graph),
            profiles=[],
            architectures=[architecture(torch, opened)],
            version=str(torch.__version__),
        )
        make = partial(_build, model, opened, recipe, say)
        built.append(build_once(model, recipe, make, overwrite=overwrite))
    return built


def _build(
    model: ModelFolder,
    device: Device,
    recipe: Recipe,
    say: Callable[[str], None],
    path: Path,
) -> None:
    """Compile a graph to a package at `path`.

    Raises:
        BackendError: the machine has no C++ compiler.
        ExecutionError: the graph cannot be compiled.
    """
    say(
        f"compiling the {recipe.precision} package of {recipe.graph}"
        f" for {', '.join(recipe.architectures)}"
    )
    source = convert(load(model.graph_path(recipe.graph)), recipe.precision)
    try:
        with (
            nullcontext() if device is CPU else compiling_for_cuda(),
            fresh_cache(dir=str(path.parent)),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # PyTorch warns of its implementation
            compile_graph(source, model.graph(recipe.graph), device.name, path)
    except (PnpOvssError, OSError):
        raise
    except InvalidCxxCompiler as error:
        raise BackendError(
            f"PyTorch finds no C++ compiler: {reason(error)}",
            "install a compiler (apt install g++), or name it in the environment variable CXX",
        ) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ExecutionError(
            f"memory ran out while {recipe.graph} was compiled: {reason(error)}",
            "free memory, or compile on a machine that has more",
        ) from error
    except Exception as error:  # the compiler's exceptions share no base class
        message = error.output if isinstance(error, CppCompileError) else str(error)
        raise ExecutionError(
            f"PyTorch {torch.__version__} cannot compile {recipe.graph}:"
            f" {type(error).__name__}: {message}",
            "try another --precision, or report it with the output of: pnp-ovss doctor",
        ) from error


def compile_graph(source: ir.Model, graph: Graph, device: str, path: Path) -> None:
    """Compile a graph to a package.

    Args:
        source: graph, in the precision of the package.
        graph: record of the graph in the manifest.
        device: device to compile for, "cpu" or "cuda:N".
        path: path of the package that is written.
    """
    known = torch._inductor.list_options()
    options = {name: value for name, value in _OPTIONS.items() if name in known}
    with sdpa_kernel(_ATTENTION):
        torch._inductor.aoti_compile_and_package(
            _trace(source, graph, device), package_path=str(path), inductor_configs=options
        )


def _trace(source: ir.Model, graph: Graph, device: str) -> Any:
    """Trace a graph to a `torch.export.ExportedProgram` for any number and length of rows."""
    shared = graph.dimension("shared")
    shapes = input_shapes(source, shared)
    dimensions, sizes = _dimensions(graph)
    dynamic = {
        name: {axis: dimensions[size] for axis, size in enumerate(shape) if size in dimensions}
        for name, shape in shapes.items()
    }
    inputs = _example_inputs(source, shapes, sizes, device)
    tracing: Any = _config
    with torch.no_grad(), tracing.patch(backed_size_oblivious=True):  # sizes may be 1
        module = torch_module(source, shared).to(device)
        return torch.export.export(module, (), inputs, dynamic_shapes=dynamic)


def _dimensions(graph: Graph) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the dynamic dimensions by name, and the size of each in tracing."""
    dimensions: dict[str, Any] = {EACH: Dim(EACH, min=1, max=LARGEST)}
    sizes = {EACH: _TYPICAL_EACH}
    for name, role in graph.roles.items():
        largest = graph.limits[name] if role in PADDED else LARGEST
        # A caption has at least two tokens, and an image at least [CLS] and a patch.
        dimensions[name] = Dim(name, min=2 if role == "padded" else 1, max=largest)
        sizes[name] = min(_TYPICAL[role], largest)
    return dimensions, sizes


def _example_inputs(
    source: ir.Model, shapes: dict[str, list[int | str]], sizes: dict[str, int], device: str
) -> dict[str, Tensor]:
    """Return inputs of zeros, in the sizes of the dynamic dimensions."""
    return {
        str(value.name): torch.zeros(
            [sizes[size] if isinstance(size, str) else size for size in shapes[str(value.name)]],
            dtype=DTYPES[value.dtype or ir.DataType.FLOAT],
            device=device,
        )
        for value in source.graph.inputs
    }
