"""Choose colors of classes that are far apart, and readable over a photograph."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt

_FIRST = (
    "e6194b 3cb44b 4363d8 f58231 911eb4 42d4f4 f032e6 ffe119 469990 9a6324 bfef45 dcbeff"
    " 800000 aaffc3 808000 ffd8b1 000075 fabed4"
)
_GOLDEN_RATIO = 0.618033988749895


def class_colors(classes: int) -> npt.NDArray[np.uint8]:
    """Choose a color for each label, uint8 [1 + classes, 3]; the background is black."""
    first = [tuple(bytes.fromhex(color)) for color in _FIRST.split()]
    spread = (_spread(index) for index in range(classes - len(first)))
    return np.array([(0, 0, 0), *first[:classes], *spread], np.uint8)


def _spread(index: int) -> tuple[int, ...]:
    """Choose hues a golden angle apart, with changing lightness, so that neighbors differ most."""
    hue = (index * _GOLDEN_RATIO) % 1
    lightness = (0.45, 0.65, 0.55)[index % 3]
    return tuple(round(255 * c) for c in colorsys.hls_to_rgb(hue, lightness, 0.75))
