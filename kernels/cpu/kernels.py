"""Lists the kernels on the CPU: images and refinement in C++, the passes in NumPy."""

from ..reference import accumulate, blank_patches, class_maps, drop_salient, normalize
from .densecrf import densecrf
from .refine import channels, enlarged_labels, labels, probabilities

__all__ = [
    "accumulate",
    "blank_patches",
    "channels",
    "class_maps",
    "densecrf",
    "drop_salient",
    "enlarged_labels",
    "labels",
    "normalize",
    "probabilities",
]
