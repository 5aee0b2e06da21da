"""Model folder to packages of AOTInductor: the graphs as PyTorch compiles them ahead of time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch._inductor.exc import CppCompileError, InvalidCxxCompiler
from torch._inductor.utils import fresh_cache
from torch.export import Dim
from torch.fx.experimental import _config

from ..engine import artifact, engines
from ..engine.artifact import Artifact, Manifest
from ..engine.device import CPU, Device, open_device, usable_devices
from ..engine.engines import Built, Recipe
from ..engine.errors import BackendError, ExecutionError, reason
from ..engine.runners import Precision
from ..engine.runners.aotinductor import LARGEST, TARGET, architecture, require_cuda
from .engines import build_once
from .precision import convert
from .torch_graph import input_shapes, torch_module

# Sizes to trace with, and to choose kernels for. The code takes others, too.
_TYPICAL = {"batch": 4, "images": 4, "captions": 2, "tokens": 16, "kept": 16}

_OPTIONS = {
    # The package runs on every CPU of its architecture, not only on those like this machine's.
    "cpp.march": "",
    # Sizes of 1 are right (none was taken to be impossible), but believed to be checked for.
    "aot_inductor.check_lowerbound": False,
}


def build(
    model: Artifact,
    *,
    target: str = TARGET,
    precision: Precision | None = None,
    batches: Sequence[int] = (),
    tokens: Sequence[int] = (),
    architectures: Sequence[str] = (),
    drop_mode: str = "pixels",
    device: str = "auto",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Built]:
    """Compile the graphs of a model, unless they are there. Packages take any shape.

    Args:
        model: the model folder; the packages come to lie in its `engines/`.
        target: "aotinductor".
        precision: of the arithmetic; by default fp16 for a GPU, fp32 for the CPU.
        batches: without effect, as is `tokens`; other targets are built for them.
        tokens: as above.
        architectures: must be empty: it is compiled for what is there.
        drop_mode: compile the graphs that it runs.
        device: to compile for: "cpu", "cuda" or "cuda:N", which must be there. "auto" is the first
            GPU, or the CPU where there is none.
        overwrite: compile what is there, too.
        say: is told of each step.

    Returns:
        The package of each graph, as `artifact.graphs` has them.

    Raises:
        ModelError: the model folder is of an earlier version, which had no such graph.
        BackendError: the device, a C++ compiler or a new enough PyTorch cannot be had; or
            architectures were named.
        ExecutionError: a graph cannot be compiled.
        OutputError: a package cannot be written.
    """
    if architectures:
        raise BackendError(
            f"{target} compiles for the device that is there, not for {', '.join(architectures)}",
            "leave --compute-capability out",
        )
    if not hasattr(torch._inductor.config.aot_inductor, "check_lowerbound"):
        raise BackendError(
            f"PyTorch {torch.__version__} is too old to compile for any number of pictures",
            "pip install --upgrade 'pnp-ovss[aotinductor]'",
        )
    place = usable_devices()[0] if device == "auto" else open_device(device)
    require_cuda(torch, place)
    built: list[Built] = []
    for graph in artifact.graphs(model, drop_mode):
        recipe = Recipe(
            target=target,
            graph=Path(graph).stem,
            precision=precision or ("fp32" if place is CPU else "fp16"),
            graph_sha256=engines.graph_sha256(model.manifest, graph),
            profiles=[],
            architectures=[architecture(torch, place)],
            version=str(torch.__version__),
        )
        make = partial(_build, model, model.path / graph, place, recipe, say)
        built.append(build_once(model, recipe, make, overwrite=overwrite))
    return built


def _build(
    model: Artifact,
    onnx: Path,
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
    source = convert(ir.load(onnx), recipe.precision)
    try:
        with fresh_cache(dir=str(path.parent)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's about itself
            program = _trace(source, place, model.manifest)
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=_OPTIONS
            )
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
    except RuntimeError as error:
        why = error.output if isinstance(error, CppCompileError) else str(error)
        raise ExecutionError(
            f"PyTorch {torch.__version__} cannot compile {recipe.graph}: {why}",
            "try another --precision, or report it with: pnp-ovss doctor",
        ) from error


def _trace(source: ir.Model, place: Device, manifest: Manifest) -> Any:
    """A `torch.export.ExportedProgram` that takes any batch, length of captions and kept tokens."""
    most = {"tokens": manifest.caption.max_tokens, "kept": 1 + manifest.grid**2}
    dimensions = {name: Dim(name, min=1, max=LARGEST) for name in _TYPICAL}
    dimensions |= {name: Dim(name, min=2, max=size) for name, size in most.items()}  # none is less
    sizes = {name: min(size, most.get(name, size)) for name, size in _TYPICAL.items()}
    shapes = input_shapes(source)
    inputs = {
        str(value.name): torch.zeros(
            [sizes[size] if isinstance(size, str) else size for size in shapes[str(value.name)]],
            dtype=torch.int64 if value.dtype == ir.DataType.INT64 else torch.float32,
            device=place.name,
        )
        for value in source.graph.inputs
    }
    dynamic = {
        name: {axis: dimensions[size] for axis, size in enumerate(shape) if size in dimensions}
        for name, shape in shapes.items()
    }
    tracing: Any = _config
    with torch.no_grad(), tracing.patch(backed_size_oblivious=True):  # sizes may be 1
        module = torch_module(source).to(place.name)
        return torch.export.export(module, (), inputs, dynamic_shapes=dynamic)
