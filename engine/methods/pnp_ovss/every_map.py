"""Make class maps of every layer and head, with a model that was exported for tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....kernels import reference
from ...device import CPU
from ...errors import ModelError
from ...model.folder import open_model
from ...precision import PrecisionChoice
from ...tracing import span
from ..base import Request, require_finite
from .captions import CaptionBatch, largest_of_names
from .graphs import Graphs
from .locate import PnpOvss


def open_every_map(
    model: str | Path,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
) -> PnpOvss:
    """Load a model that was exported with --all-heads; see `methods.open_method`.

    Raises:
        ModelError: the model was exported without --all-heads, or cannot be opened.
        BackendError: the backend, the device or the precision cannot be had.
    """
    found = open_model(model)
    if not found.manifest.all_heads:
        raise ModelError(
            f"'{found.path}' keeps one map, so its layers and heads cannot be compared",
            "export the checkpoint again with --all-heads",
        )
    return PnpOvss(
        Graphs.open(found, backend=backend, device=device, precision=precision, threads=threads)
    )


def layers_and_heads(method: PnpOvss) -> tuple[list[int], list[int]]:
    """List the layers and the heads that a model gives maps of, as the checkpoint numbers them."""
    manifest = method.graphs.manifest
    layers, heads = (
        [one] if isinstance(one, int) else one for one in (manifest.layer, manifest.head)
    )
    return layers, heads


def every_map(method: PnpOvss, request: Request) -> npt.NDArray[np.float32]:
    """Make class maps of each layer and head in the first pass: float32 [L, H, C, gh, gw].

    Raises:
        ExecutionError: a value of the salience is not finite.
    """
    graphs, device = method.graphs, method.device
    written = graphs.captioner.write(request.names, join=request.settings.join_words)
    captions = CaptionBatch.of(graphs.captioner, [written], device)
    with device.on_stream():
        pixels = graphs.normalize(device.xp.asarray(request.pixels[None]))
        keep = device.xp.ones((1, method.preprocess.patches), np.float32)
        with span("vision"):
            embeds = graphs.embed(pixels)
        with span("salience"):
            salience, _ = graphs.salience(embeds, keep, captions)
            salience = device.to_host(salience)
    require_finite("salience", salience)
    members, first, summed = map(
        device.to_host, (captions.members, captions.first_member, captions.summed)
    )
    shape = (-1, *method.preprocess.grid)
    return np.array(
        [
            [
                largest_of_names(
                    reference.class_maps(head, members, first, summed).reshape(shape), written, CPU
                )
                for head in np.moveaxis(layer, 1, 0)
            ]
            for layer in np.moveaxis(salience, 1, 0)
        ]
    )
