"""Model folder to packages of AOTInductor: the graphs as PyTorch compiles them ahead of time."""

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
from ...engine.model.signature import Graph, Role
from ...engine.precision import Precision
from ...engine.runners.aotinductor import CPU_OPTION, LARGEST, TARGET, architecture, require_cuda
from ..graphs.loading import load
from ..graphs.precision import convert
from .cuda_toolkit import compiling_for_cuda
from .store import build_once
from .torch_graph import EACH, input_shapes, torch_module

# Sizes to trace with, and to choose kernels for. The code takes others, too.
_TYPICAL: dict[Role, int] = {"rows": 4, "shared": 4, "padded": 16}
_TYPICAL_EACH = 2  # rows of each image, where rows may share images

_OPTIONS = {
    # The package runs on every CPU of its architecture, not only on those like this machine's.
    # PyTorch 2.11 does not know it: then it is for this very CPU, see `architecture`.
    CPU_OPTION: "",
    # A header is compiled once a package, so there is nothing to gain (2.11 needs OpenSSL for it).
    "aot_inductor.precompile_headers": False,
    # Sizes of 1 are right (none was taken to be impossible), but believed to be checked for.
    "aot_inductor.check_lowerbound": False,
}


# Not cuDNN's, which an H100 would get: it plans anew for each shape, on each thread.
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
    """Compile the graphs of a model, unless they are there. Packages take any shape.

    Args:
        model: the model folder; the packages come to lie in its `builds/`.
        target: "aotinductor".
        precision: of the arithmetic; by default fp16 for a GPU, fp32 for the CPU.
        batches: without effect, as is `tokens`; other targets are built for them.
        tokens: as above.
        architectures: must be empty: it is compiled for what is there.
        drop_mode: compile the graphs that it runs.
        graphs: compile these instead, by their names in a recipe.
        device: to compile for: "cpu", "cuda" or "cuda:N", which must be there. "auto" is the first
            GPU, or the CPU where there is none.
        overwrite: compile what is there, too.
        say: is told of each step.

    Returns:
        The package of each graph, as `graphs_to_build` has them.

    Raises:
        ModelError: the model folder is damaged.
        BackendError: the device, a C++ compiler or a new enough PyTorch cannot be had; or
            architectures were named.
        InputError: there is no such graph.
        ExecutionError: a graph cannot be compiled.
        OutputError: a package cannot be written.
    """
    if architectures:
        raise BackendError(
            f"{target} compiles for the device that is there, not for {', '.join(architectures)}",
            "leave --compute-capability out",
        )
    if "aot_inductor.check_lowerbound" not in torch._inductor.list_options():
        raise BackendError(
            f"PyTorch {torch.__version__} is too old to compile for any number of images",
            "pip install --upgrade 'pnp-ovss[aotinductor]'",
        )
    if device == "auto":
        place = usable_devices(lambda error: say(f"not for a GPU: {error.cause}"))[0]
    else:
        place = open_device(device)
    require_cuda(torch, place)
    built: list[Build] = []
    for graph in builds.graphs_to_build(model, {"drop_mode": drop_mode}, graphs):
        recipe = Recipe(
            target=target,
            graph=graph,
            precision=precision or ("fp32" if place is CPU else "fp16"),
            graph_sha256=builds.graph_sha256(model, graph),
            profiles=[],
            architectures=[architecture(torch, place)],
            version=str(torch.__version__),
        )
        make = partial(_build, model, place, recipe, say)
        built.append(build_once(model, recipe, make, overwrite=overwrite))
    return built


def _build(
    model: ModelFolder,
    place: Device,
    recipe: Recipe,
    say: Callable[[str], None],
    path: Path,
) -> None:
    """Compile one graph, at `path`."""
    say(
        f"compiling the {recipe.precision} package of {recipe.graph}"
        f" for {', '.join(recipe.architectures)}"
    )
    source = convert(load(model.graph_path(recipe.graph)), recipe.precision)
    try:
        with (
            nullcontext() if place is CPU else compiling_for_cuda(),
            fresh_cache(dir=str(path.parent)),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # PyTorch's about itself
            compile_graph(source, model.graph(recipe.graph), place.name, path)
    except (PnpOvssError, OSError):
        raise
    except InvalidCxxCompiler as error:
        raise BackendError(
            f"PyTorch finds no C++ compiler: {reason(error)}",
            "install one (apt install g++), or name it in the environment variable CXX",
        ) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ExecutionError(
            f"memory ran out while {recipe.graph} was compiled: {reason(error)}",
            "free memory, or compile where there is more",
        ) from error
    except Exception as error:  # the compiler's exceptions share no base of their own
        why = error.output if isinstance(error, CppCompileError) else str(error)
        raise ExecutionError(
            f"PyTorch {torch.__version__} cannot compile {recipe.graph}:"
            f" {type(error).__name__}: {why}",
            "try another --precision, or report it with: pnp-ovss doctor",
        ) from error


def compile_graph(source: ir.Model, graph: Graph, device: str, path: Path) -> None:
    """Compile a graph.

    Args:
        source: the graph, in the precision that it is to have.
        graph: what the manifest tells of it.
        device: "cpu" or "cuda:N".
        path: of the package that is written.
    """
    known = torch._inductor.list_options()
    options = {name: value for name, value in _OPTIONS.items() if name in known}
    with sdpa_kernel(_ATTENTION):
        torch._inductor.aoti_compile_and_package(
            _trace(source, graph, device), package_path=str(path), inductor_configs=options
        )


def _trace(source: ir.Model, graph: Graph, device: str) -> Any:
    """A `torch.export.ExportedProgram` that takes any number of rows of any length."""
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
    """Dynamic dimensions by name, and the sizes of each to trace with."""
    dimensions: dict[str, Any] = {EACH: Dim(EACH, min=1, max=LARGEST)}
    sizes = {EACH: _TYPICAL_EACH}
    for name, role in graph.roles.items():
        most = graph.limits[name] if role == "padded" else LARGEST
        # no caption has fewer tokens than two, and no image fewer than [CLS] and a patch
        dimensions[name] = Dim(name, min=2 if role == "padded" else 1, max=most)
        sizes[name] = min(_TYPICAL[role], most)
    return dimensions, sizes


def _example_inputs(
    source: ir.Model, shapes: dict[str, list[int | str]], sizes: dict[str, int], device: str
) -> dict[str, Tensor]:
    """Zeros of a size for each dynamic dimension."""
    return {
        str(value.name): torch.zeros(
            [sizes[size] if isinstance(size, str) else size for size in shapes[str(value.name)]],
            dtype=torch.int64 if value.dtype == ir.DataType.INT64 else torch.float32,
            device=device,
        )
        for value in source.graph.inputs
    }
