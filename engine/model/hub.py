"""Models named by their hub id, exported into the user's cache when they are first used."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ..errors import ModelError
from .folder import cache_folder, is_hub_id

EXPORTER = "pnp_ovss.export.exporter"  # by name: the engine runs where it cannot be imported


def ensure_exported(model: str, say: Callable[[str], None] = lambda _: None) -> None:
    """Export a hub id, unless that was done.

    Args:
        model: a hub id; whatever else a model may be named by is left alone.
        say: is told of each step.

    Raises:
        ModelError: it has not been exported yet, and cannot be here.
    """
    if not is_hub_id(model):
        return
    folder = cache_folder(model)
    if folder.exists():
        return
    try:
        export = import_module(EXPORTER).export  # imports PyTorch
    except ImportError as error:
        raise ModelError(
            f"{model!r} has not been exported here yet, and that needs PyTorch: {error}",
            "pip install 'pnp-ovss[export]'",
        ) from error
    export(model, folder, say=say)
