"""Training-free, open-vocabulary segmentation: name the things in a picture, get a mask of each."""

from .errors import (
    BackendError,
    ExecutionError,
    InputError,
    ModelError,
    OutputError,
    PnpOvssError,
)
from .segmentation import Segmentation
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
