"""What contenders share: their task, the protocol of a segmenter that is timed, limits of error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from pnp_ovss.engine.errors import BackendError, PnpOvssError, reason
from pnp_ovss.engine.settings import CHOICES

PIXELS = "pixels"
DROP_MODES = [mode for mode in CHOICES["drop_mode"] if mode]

CLASS_NAMES = ("person", "boat", "umbrella", "dog", "cat", "horse", "sheep", "cow", "bird")
CLASS_NAMES += ("bicycle", "car", "bus", "train", "bottle", "chair", "table", "plant", "sofa")
CLASS_NAMES += ("screen", "kite")

# Off from eager PyTorch in fp32, of the largest value of class maps or salience: what is further
# off is taken to be wrong. In fp32 after all passes; below it after the first, as later ones hang
# on which patches are dropped. Seen on random weights: 1e-5, and bf16 0.02 to 0.035, int8 0.08.
LIMITS = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.08, "int8": 0.2}

# Whole segmenters in PyTorch, by name.
RELEASED, LEAN = "released", "lean"
COMPILED_SEGMENTERS = ("lean-compile", "lean-compile-bf16")
PYTORCH_SEGMENTERS = (RELEASED, LEAN, "lean-autocast-bf16", *COMPILED_SEGMENTERS)


class SkippedError(Exception):
    """A contender that cannot be timed here.

    Args:
        why: in one line.
        failed: whether it broke, and is not merely absent.
    """

    def __init__(self, why: str, *, failed: bool = False) -> None:
        super().__init__(why)
        self.failed = failed

    @classmethod
    def because(cls, error: Exception) -> SkippedError:
        """Turn another error into one of this kind, with cause and cure in a line."""
        if isinstance(error, cls):
            return error
        if isinstance(error, PnpOvssError):
            words = [error.cause, error.cure]
        else:
            words = [type(error).__name__, reason(error)]
        text = "; ".join(dict.fromkeys(filter(None, words)))
        absent = isinstance(error, BackendError | ImportError)
        return cls(" ".join(text.split()), failed=not absent)


@contextmanager
def skipped_if_it_fails() -> Iterator[None]:
    """Turn whatever a library raises into `SkippedError`, so that other contenders are measured.

    Raises:
        SkippedError: something was raised.
    """
    try:
        yield
    except Exception as error:  # the libraries' exceptions share no base of their own
        raise SkippedError.because(error) from error


class Skipped(msgspec.Struct, frozen=True):
    """A row of results: a contender that was not timed on a device.

    Attributes:
        contender: its name.
        device: "cpu" or "cuda:N".
        skipped: why, in one line.
        failed: whether it broke or is wrong, and is not merely absent.
    """

    contender: str
    device: str
    skipped: str
    failed: bool = False


@dataclass(frozen=True)
class Task:
    """What every segmenter does; the other settings are the paper's.

    Attributes:
        image: file of the image.
        classes: that are looked for in it.
        passes: K.
        drop_mode: what dropping a patch means.
    """

    image: Path
    classes: tuple[str, ...]
    passes: int = 4
    drop_mode: Any = PIXELS


class TimedSegmenter(Protocol):
    """A loaded segmenter, from an image's file to its labels; its stages are spans."""

    def segment(self, task: Task) -> np.ndarray:
        """Segment the image into labels, uint16 [H, W]."""
        ...

    def maps(self, task: Task) -> np.ndarray:
        """Make class maps, float32 [C, gh, gw]."""
        ...

    def stream(self, task: Task, images: int, batch: int) -> None:
        """Segment the image so often, in batches of that size if the segmenter has batches."""
        ...

    def synchronize(self) -> None:
        """Wait for the device."""
        ...

    def read_back(self) -> dict[str, Any]:
        """Facts of how it really runs: providers, dtypes, threads."""
        ...
