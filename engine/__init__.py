"""Training-free, open-vocabulary segmentation: name the things in an image, get a mask of each.

    >>> from pnp_ovss.engine import Segmenter
    >>> with Segmenter.load("demo") as segmenter:
    ...     result = segmenter.segment("beach.jpg", ["turtle", "umbrella"])
    >>> result.labels  # uint16 [H, W]: 0 background, i + 1 = the i-th name
    >>> result.mask("turtle")  # bool [H, W]

`Segmenter` loads a model and segments; `Settings` says how; `Segmentation` is a result. Every error
is a `PnpOvssError`, with a cause and a cure.
"""

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


def __dir__() -> list[str]:
    """List what can be imported from here, for `help` and completion."""
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import what is asked for: a part of the engine does not need what another part needs."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
