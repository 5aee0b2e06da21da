"""Export models that are named by their hub id into the user's cache, on first use."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ..errors import ModelError
from .folder import HIDDEN, cache_folder, hides_a_folder, is_hub_id

EXPORTER = "pnp_ovss.export.exporter"  # by name: the engine runs where it cannot be imported


def ensure_exported(model: str, say: Callable[[str], None] = lambda _: None) -> None:
    """Export a hub id into the user's cache, unless the cache has it.

    Args:
        model: a hub id, such as "Salesforce/blip-itm-large-flickr"; a model folder or "demo" needs
            no export.
        say: called with a line of text at each step of the export, and where the name means another
            model than may be thought.

    Raises:
        ModelError: the model has not been exported, and cannot be exported here.
    """
    if hides_a_folder(model):
        say(f"note: {HIDDEN}")
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
