"""What passes between the stages of a segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from ..device import Array
from ..inputs.text import CaptionTokens

Present = Literal["given", "match"]


@dataclass(frozen=True, eq=False)
class Request:
    """A picture and the classes to look for in it.

    Attributes:
        image: RGB.
        square: the picture at the model's size, uint8 [S, S, 3].
        classes: C names, clean.
        alone: a caption for each class by itself.
    """

    image: Image.Image
    square: np.ndarray
    classes: list[str]
    alone: list[CaptionTokens]


@dataclass(frozen=True, eq=False)
class Located:
    """What the model says about a picture; arrays are on its device.

    Attributes:
        query: what was asked.
        present: indices of the classes that were looked for.
        alone_logits: float32 [C, 2], ITM logits of each class by itself.
        logits: float32 [K, captions, 2] of the passes; None where no class was looked for.
        class_maps: float32 [present, p, p]; likewise.
        mark: what must be done before the arrays can be read; see `Device.beside`.
    """

    query: Request
    present: list[int]
    alone_logits: Array
    logits: Array | None = None
    class_maps: Array | None = None
    mark: Any = None
