"""Whole segmenters, from a picture's file to its labels: the engine on each of its backends.

Those in PyTorch are in a module of their own, so that whoever measures the engine need not load it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pnp_ovss.engine import Segmenter, segmenter
from pnp_ovss.engine.errors import BackendError, PnpOvssError, reason
from pnp_ovss.engine.methods.pnp_ovss import graphs, locate
from pnp_ovss.engine.precision import PRECISIONS
from pnp_ovss.engine.refine import crf
from pnp_ovss.engine.runners import BACKENDS
from pnp_ovss.engine.runners.base import Runner
from pnp_ovss.engine.settings import CHOICES, Settings

from ..harness.stopwatch import Place

PIXELS = "pixels"
NAMES = ("person", "boat", "umbrella", "dog", "cat", "horse", "sheep", "cow", "bird", "bicycle")
NAMES += ("car", "bus", "train", "bottle", "chair", "table", "plant", "sofa", "screen", "kite")

# Off from eager PyTorch in fp32, of the largest value of class maps or salience: what is further
# off is taken to be wrong. In fp32 after all passes; below it after the first, as later ones hang
# on which patches are dropped. Seen on random weights: 1e-5, and bf16 0.02 to 0.035, int8 0.08.
LIMITS = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.08, "int8": 0.2}

MODES = [mode for mode in CHOICES["drop_mode"] if mode]


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
        """Of what another error says."""
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
    """Whatever a library makes of it, the other contenders are to be measured.

    Raises:
        SkippedError: it failed.
    """
    try:
        yield
    except Exception as error:  # the libraries' exceptions share no base of their own
        raise SkippedError.because(error) from error


@dataclass(frozen=True)
class Model:
    """What every segmenter loads.

    Attributes:
        checkpoint: for PyTorch.
        folder: its export.
        device: "cpu" or "cuda:N".
    """

    checkpoint: str
    folder: Path
    device: str


@dataclass(frozen=True)
class Task:
    """What every segmenter does; the other settings are the paper's.

    Attributes:
        picture: a file.
        classes: that are looked for in it.
        passes: K.
        drop_mode: what dropping a patch means.
    """

    picture: Path
    classes: tuple[str, ...]
    passes: int = 4
    drop_mode: Any = PIXELS


class Subject(Protocol):
    """A segmenter that was loaded."""

    def segment(self, task: Task) -> np.ndarray:
        """Labels of the picture, [H, W]."""
        ...

    def maps(self, task: Task) -> np.ndarray:
        """Class maps, float32 [C, p, p]."""
        ...

    def stream(self, task: Task, pictures: int, batch: int) -> None:
        """Segment the picture so often, in batches of that size if it knows batches."""
        ...

    def synchronize(self) -> None:
        """Wait for the device."""
        ...

    def read_back(self) -> dict[str, Any]:
        """How it really runs."""
        ...

    @property
    def places(self) -> list[Place]:
        """The functions that its stages are."""
        ...


class Engine:
    """The engine on one of its backends.

    Args:
        model: to load.
        backend: a key of `BACKENDS`.
        precision: of its arithmetic.

    Raises:
        PnpOvssError: it cannot be had.
    """

    def __init__(self, model: Model, backend: str, precision: Any) -> None:
        self._segmenter = Segmenter.load(
            model.folder,
            backend=backend,
            device=model.device,
            precision=precision,
            verify=False,
        )

    def segment(self, task: Task) -> np.ndarray:
        """See `Subject.segment`."""
        found = self._segmenter.segment(task.picture, task.classes, settings=_settings(task))
        return found.labels

    def maps(self, task: Task) -> np.ndarray:
        """See `Subject.maps`."""
        settings = replace(_settings(task), crf=None)
        found = self._segmenter.segment(task.picture, task.classes, settings=settings)
        return found.class_maps

    def stream(self, task: Task, pictures: int, batch: int) -> None:
        """See `Subject.stream`."""
        pairs = [(task.picture, task.classes)] * pictures
        for _ in self._segmenter.stream(pairs, batch_size=batch, settings=_settings(task)):
            pass

    def synchronize(self) -> None:
        """See `Subject.synchronize`."""
        device = self._network.device
        if device.stream is not None:  # all of its streams: refinement and CRF have one beside it
            device.xp.cuda.Device(device.index).synchronize()

    def read_back(self) -> dict[str, Any]:
        """See `Subject.read_back`."""
        graphs = {"vision": self._network.vision, "salience": self._network.salience}
        return {name: _facts(runner) for name, runner in graphs.items()}

    @property
    def places(self) -> list[Place]:
        """See `Subject.places`."""
        return [
            (segmenter, "load_rgb", "decode"),
            (segmenter, "squared", "preprocess"),
            (segmenter, "search", "preprocess"),
            (graphs.Network, "embed", "vision"),
            (graphs.Network, "embed_kept", "vision"),
            (graphs.Network, "match", "match of each class"),
            (graphs.Network, "read", "salience"),
            (locate, "salience_dropout", "between passes"),
            (segmenter, "to_channels", "refine"),
            (crf, "marginals", "crf"),
        ]

    @property
    def _network(self) -> graphs.Network:
        return self._segmenter._network


def _settings(task: Task) -> Settings:
    return Settings.preset("paper", drop_mode=task.drop_mode, passes=task.passes)


def _facts(runner: Runner) -> dict[str, Any]:
    """What a runner says of itself."""
    names = ("providers", "properties", "recipe", "captured")
    return {name: getattr(runner, name) for name in names if hasattr(runner, name)}


RELEASED, LEAN = "released", "lean"
COMPILED = ("lean-compile", "lean-compile-bf16")
PYTORCH = (RELEASED, LEAN, "lean-autocast-bf16", *COMPILED)
ENGINE = [
    f"{backend}-{precision}"
    for backend in BACKENDS
    for precision in PRECISIONS
    if precision != "auto"
]
SUBJECTS = [*PYTORCH, *ENGINE]


def load(name: str, model: Model) -> Subject:
    """A segmenter of `SUBJECTS`.

    Raises:
        PnpOvssError: it cannot be had here.
        ImportError: likewise.
    """
    if name in PYTORCH:
        from .pytorch import open_pytorch

        return open_pytorch(name, model)
    backend, _, precision = name.rpartition("-")
    return Engine(model, backend, precision)


def precision_of(name: str) -> str:
    """Of the arithmetic of a segmenter of `SUBJECTS`."""
    tail = name.rpartition("-")[2]
    return tail if tail in PRECISIONS else "fp32"
