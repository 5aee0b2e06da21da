"""Dense CRF (Kraehenbuehl and Koltun, 2011) over the refined channels."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
from PIL import Image

from ..kernels import reference
from .errors import BackendError
from .memory import require_memory

ITERATIONS = 10
GAUSSIAN = {"sxy": 3, "compat": 7}
BILATERAL = {"sxy": 50, "srgb": 5, "compat": 10}

# pydensecrf's peak, measured on noise (its worst case) from 0.2 to 3 megapixels, 3 to 21 labels
_BYTES_PER_PIXEL = 700
_BYTES_PER_PIXEL_AND_LABEL = 32

CURE = (
    "pip install 'pnp-ovss[crf]' (needs a C++ compiler), or go without: --crf none, crf=None"
    if sys.version_info < (3, 13)
    else "it does not support this Python: use 3.12, or go without: --crf none, crf=None"
)


def require() -> Any:
    """The CRF's module.

    Raises:
        BackendError: it is not installed.
    """
    try:
        return importlib.import_module("pydensecrf.densecrf")
    except ImportError as error:
        raise BackendError(f"the dense CRF needs pydensecrf2: {error}", CURE) from error


def available() -> bool:
    """Whether the CRF can be used."""
    try:
        require()
    except BackendError:
        return False
    return True


def marginals(image: Image.Image, channels: np.ndarray) -> np.ndarray:
    """Mean-field marginals, float32 [C, H, W].

    Args:
        image: RGB, W x H.
        channels: float32 [C, H, W] in [0, 1]; their softmax is the unary probability.

    Raises:
        BackendError: the CRF is not installed.
        InputError: it would need more memory than there is.
    """
    densecrf = require()
    labels, height, width = channels.shape
    require_memory(
        height * width * (_BYTES_PER_PIXEL + labels * _BYTES_PER_PIXEL_AND_LABEL),
        f"the dense CRF on {width}x{height} pixels and {labels} labels",
        "scale the picture down, name fewer classes, or go without the CRF: --crf none",
    )
    unary = -np.log(reference.softmax(channels)).reshape(labels, -1)
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    crf.addPairwiseGaussian(**GAUSSIAN)
    crf.addPairwiseBilateral(**BILATERAL, rgbim=np.array(image))
    return np.array(crf.inference(ITERATIONS), np.float32).reshape(labels, height, width)
