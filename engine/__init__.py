"""Training-free, open-vocabulary segmentation: name the things in an image, get a mask of each."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        BackendError,
        ExecutionError,
        InputError,
        ModelError,
        OutputError,
        PnpOvssError,
    )
    from .result.segmentation import Segmentation
    from .segmenter import Segmenter
    from .settings import Settings

__all__ = [
    "BackendError",
    "ExecutionError",
    "InputError",
    "ModelError",
    "OutputError",
    "PnpOvssError",
    "Segmentation",
    "Segmenter",
    "Settings",
]
logging.getLogger("pnp_ovss").addHandler(logging.NullHandler())  # silent unless it is configured

_HOMES = {"Segmentation": "result.segmentation", "Segmenter": "segmenter", "Settings": "settings"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: a part of the engine does not need what another part needs."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
