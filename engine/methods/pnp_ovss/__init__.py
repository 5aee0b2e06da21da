"""PnP-OVSS: cross-attention times the gradient of the match, with Salience DropOut (CVPR 2024).

`locate` is the method and `passes` its Salience DropOut. `graphs` runs the model, `captions` lays
out captions as arrays, and `every_map` gives the maps of every layer and head, for tuning.
"""

from __future__ import annotations

from ...errors import ModelError
from ...model.folder import ModelFolder
from ...precision import PrecisionChoice
from .graphs import Graphs
from .locate import PnpOvss

__all__ = ["Graphs", "PnpOvss", "open_pnp_ovss"]


def open_pnp_ovss(
    model: ModelFolder,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
) -> PnpOvss:
    """Load a model folder for PnP-OVSS; see `methods.open_method` for the arguments.

    Raises:
        ModelError: the model was exported for tuning, or its tokenizer cannot be read.
        BackendError: the backend, the device or the precision cannot be had.
    """
    if model.manifest.all_heads:
        raise ModelError(
            f"'{model.path}' was exported with --all-heads, for tuning",
            "export it again with --layer and --head to segment with it",
        )
    return PnpOvss(
        Graphs.open(model, backend=backend, device=device, precision=precision, threads=threads)
    )
