"""What passes between the stages of a segmentation, and what every method offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from ..device import CPU, Array, Device
from ..errors import ExecutionError
from ..model.manifest import Preprocess
from ..runners.placement import Placement
from ..settings import Settings

Present = Literal["given", "match"]
"""Which classes are looked for: all that are given, or those that match the image."""


@dataclass(frozen=True, eq=False, repr=False)
class Request:
    """An image and the classes to look for in it, ready for the model. It can be pickled.

    Attributes:
        image: RGB, W x H.
        pixels: the image at the size of the model's input, uint8 [height, width, 3].
        classes: C names, clean.
        query: the names as the method's model reads them; only the method looks into it.
        settings: in force for this image.
        present: "given" looks for every class, "match" for those whose score is above
            `settings.match_threshold`.
    """

    image: Image.Image
    pixels: np.ndarray
    classes: tuple[str, ...]
    query: Any
    settings: Settings
    present: Present = "given"


@dataclass(frozen=True, eq=False, repr=False)
class Located:
    """Where the model sees the classes of an image: class maps, before any threshold.

    Attributes:
        maps: float32 [M, gh, gw] on `device`, one for each class that was looked for, or several.
        class_of: int64 [M] on the host, the index of the class that a map belongs to, ascending.
        present: bool [C] on the host, whether each class was looked for.
        scores: float32 [C] on `device`, the probability that each class by itself matches the
            image.
        match: float32 [K] on `device`, the probability of a match in each pass; empty where no
            class was looked for, and of a method without passes.
        device: where the arrays are.
        event: of the device's stream, after which they can be read; None on the host.
    """

    maps: Array
    class_of: np.ndarray
    present: np.ndarray
    scores: Array
    match: Array
    device: Device = CPU
    event: Any = None

    def to_host(self) -> Located:
        """The same in the host's memory, which can be pickled; waits for the device.

        Raises:
            ExecutionError: a value is not finite, as the model is broken.
        """
        device = self.device
        with device.side_stream(self.event):
            maps, scores, match = map(device.to_host, (self.maps, self.scores, self.match))
        for name, values in (("class map", maps), ("score", scores), ("match", match)):
            require_finite(name, values)
        return replace(self, maps=maps, scores=scores, match=match, device=CPU, event=None)


class Method(Protocol):
    """A loaded model, and what makes class maps with it. Threads may share it.

    Attributes:
        preprocess: how an image becomes an input.
        device: where it runs.
        placement: what runs it, as told in reports.
    """

    preprocess: Preprocess

    @property
    def device(self) -> Device:
        """Where it runs."""
        ...

    @property
    def placement(self) -> Placement:
        """What runs its graphs, `Runners.placement`; of a method without any, where it runs."""
        ...

    def encode(self, classes: Sequence[str], settings: Settings) -> Any:
        """Class names, clean, as the model reads them: the query of a request.

        Raises:
            InputError: the model cannot read a name.
        """
        ...

    def locate(self, requests: Sequence[Request]) -> list[Located]:
        """Class maps of a batch. On a GPU they are queued, and nothing need wait for them."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def require_finite(name: str, values: np.ndarray) -> None:
    """Refuse what a broken model gives.

    Args:
        name: of the output.
        values: of it.

    Raises:
        ExecutionError: one is not finite.
    """
    if not np.isfinite(values).all():
        raise ExecutionError(
            f"the model's {name} is not finite", "its weights are damaged: export it again"
        )
