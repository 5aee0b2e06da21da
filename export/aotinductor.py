"""Model folder to packages of AOTInductor, compiled PyTorch that Python and C++ load."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch.export import Dim

from ..engine import engines
from ..engine.artifact import SALIENCE, VISION, Artifact
from ..engine.device import open_device, usable_devices
from ..engine.engines import Built, Recipe
from ..engine.errors import BackendError, ExecutionError, reason
from ..engine.runners import Precision
from ..engine.runners.aotinductor import architecture
from .engines import build_once
from .precision import convert
from .torch_graph import torch_module

_MOST = 4096  # pictures, or captions about one


def build(
    model: Artifact,
    *,
    target: str,
    precision: Precision,
    batches: Sequence[int] = (),
    tokens: Sequence[int] = (),
    architectures: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Built]:
    """Build both graphs of a model into packages, unless they are there.

    A package takes any batch and any captions, so `batches` and `tokens` do not matter.

    Args:
        model: the model folder; the packages come to lie in its `engines/`.
        target: "aotinductor".
        precision: of the arithmetic; inputs and outputs are as in the exported graphs.
        batches: as above.
        tokens: as above.
        architectures: must be empty: it is built for a device that is there.
        device: "cpu", "cuda" or "cuda:N"; "auto" is a GPU if there is one.
        overwrite: build packages that are there, too.
        say: is told of each step.

    Returns:
        The package of the image encoder and that of the matching branch.

    Raises:
        BackendError: the device cannot be had, or architectures were named.
        ExecutionError: a graph cannot be compiled.
        OutputError: a package cannot be written.
    """
    if architectures:
        raise BackendError(
            f"{target} builds for the device that it runs on, not for {', '.join(architectures)}",
            "leave --compute-capability out",
        )
    place = usable_devices()[0] if device == "auto" else open_device(device)
    built: list[Built] = []
    for graph in (VISION, SALIENCE):
        recipe = Recipe(
            target=target,
            graph=Path(graph).stem,
            precision=precision,
            graph_sha256=engines.graph_sha256(model.manifest, graph),
            profiles=[],
            architectures=[architecture(place)],
            version=str(torch.__version__),
        )
        say(f"compiling {recipe.graph} in {precision} for {recipe.architectures[0]}")
        compile_it = partial(_compile, model, graph, precision, place.name)
        built.append(build_once(model, recipe, compile_it, overwrite=overwrite))
    return built


def _compile(model: Artifact, graph: str, precision: Precision, device: str, path: Path) -> None:
    module = torch_module(convert(ir.load(model.path / graph), precision)).to(device)
    inputs, dynamic = _inputs(model, graph)
    inputs = tuple(value.to(device) for value in inputs)
    shapes: Any = importlib.import_module("torch.fx.experimental._config")
    # a dimension of 1, as of pictures or captions, is to be like any other
    with torch.no_grad(), shapes.patch(backed_size_oblivious=True):
        try:
            program = torch.export.export(module, inputs, dynamic_shapes=dynamic)
            torch._inductor.aoti_compile_and_package(
                program,
                package_path=str(path),
                inductor_configs={"cpp.march": ""},  # the vector instructions of `architecture`
            )
        except Exception as error:  # of many kinds, of the compiler's and of PyTorch's own
            raise ExecutionError(
                f"PyTorch {torch.__version__} cannot compile {Path(graph).stem}: {reason(error)}",
                "see that there is a C++ compiler (c++), or try another version of PyTorch",
            ) from error


def _inputs(model: Artifact, graph: str) -> tuple[tuple[torch.Tensor, ...], Any]:
    """An example, and which of its dimensions are dynamic."""
    size, patches = model.manifest.image_size, model.manifest.grid**2
    if graph == VISION:
        return (torch.zeros(2, 3, size, size),), ({0: Dim("batch", max=_MOST)},)
    images, captions = (Dim(name, max=_MOST) for name in ("images", "captions"))
    tokens = Dim("tokens", min=2, max=model.manifest.caption.max_tokens)
    shape: Any = ir.load(model.path / graph).graph.inputs[0].shape
    embeds, keep = torch.zeros(2, 1 + patches, int(shape[2])), torch.ones(2, patches)
    ids = torch.zeros(2, 3, 7, dtype=torch.long)
    of_captions = {0: images, 1: captions, 2: tokens}
    return (
        (embeds, ids, torch.ones_like(ids), keep),
        ({0: images}, of_captions, of_captions, {0: images}),
    )
