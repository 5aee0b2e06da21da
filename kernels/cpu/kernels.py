"""Lists the kernels on the CPU: the NumPy functions of `reference`, and the dense CRF in C++."""

from ..reference import (
    accumulate,
    background,
    blank_patches,
    choose_labels,
    class_maps,
    drop_salient,
    normalize,
    resample,
    scale_channels,
    softmax,
    threshold,
)
from .densecrf import densecrf

__all__ = [
    "accumulate",
    "background",
    "blank_patches",
    "choose_labels",
    "class_maps",
    "densecrf",
    "drop_salient",
    "normalize",
    "resample",
    "scale_channels",
    "softmax",
    "threshold",
]
