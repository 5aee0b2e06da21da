"""Models named by their hub id."""

from __future__ import annotations

from .. import artifact
from ..errors import ModelError
from .terminal import progress


def ensure_exported(model: str) -> None:
    """Export a hub id into the user's cache on first use."""
    if not artifact.is_hub_id(model):
        return
    folder = artifact.cache_folder(model)
    if folder.exists():
        return
    try:
        from ...export import export  # imports PyTorch
    except ImportError as error:
        raise ModelError(
            f"{model!r} has not been exported here yet, and that needs PyTorch: {error}",
            "pip install 'pnp-ovss[export]'",
        ) from error
    export(model, folder, say=progress)
