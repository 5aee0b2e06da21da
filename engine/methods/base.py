"""Records that pass between the stages of a segmentation, and the protocol of methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..device import CPU, Array, Device
from ..errors import ExecutionError
from ..inputs.names import CleanClass
from ..model.manifest import Preprocess
from ..runners.placement import Placement
from ..settings import Settings

Present = Literal["given", "match"]
"""Which classes are looked for: all that are given, or those that match the image."""


@dataclass(frozen=True, eq=False, repr=False)
class Request:
    """An image and the classes to look for in it, ready for the model. It can be pickled.

    Attributes:
        image: the image in RGB, W x H.
        pixels: the image resized to the model's input, uint8 [height, width, 3].
        classes: titles of the C classes, which are their first names.
        query: class names as the method's model reads them; only the method looks into it.
        settings: settings in force for this image.
        present: which classes are looked for: "given" for all, "match" for those whose score is
            above `settings.match_threshold`.
        synonyms: further names of the classes that have several, by title.
    """

    image: Image.Image
    pixels: npt.NDArray[np.uint8]
    classes: tuple[str, ...]
    query: Any
    settings: Settings
    present: Present = "given"
    synonyms: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    @property
    def names(self) -> list[tuple[str, ...]]:
        """All names of each class, the title first, C tuples."""
        return [(title, *self.synonyms.get(title, ())) for title in self.classes]


@dataclass(frozen=True, eq=False, repr=False)
class Located:
    """Where the model sees the classes of an image: class maps, before any threshold.

    Attributes:
        maps: class maps on `device`, float32 [M, gh, gw]; one or several for each class that was
            looked for.
        class_of: index of the class of each map, ascending, int64 [M] on the host.
        present: whether each class was looked for, bool [C] on the host.
        scores: match probability of the image and each class alone, float32 [C] on `device`.
        match: match probability in each pass, float32 [K] on `device`. It is empty where no class
            was looked for, and for a method without passes.
        device: device of the arrays.
        event: event of the device's stream, after which the arrays can be read; None on the host.
    """

    maps: Array
    class_of: npt.NDArray[np.int64]
    present: npt.NDArray[np.bool_]
    scores: Array
    match: Array
    device: Device = CPU
    event: Any = None

    def to_host(self) -> Located:
        """Copy the arrays into the host's memory, so that they can be pickled; wait for the device.

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
    """Protocol of methods: a loaded model, and how it makes class maps. Threads may share it.

    Attributes:
        preprocess: how an image becomes an input of the model.
    """

    preprocess: Preprocess

    @property
    def device(self) -> Device:
        """Device of the model."""
        ...

    @property
    def placement(self) -> Placement:
        """What runs its graphs, `Runners.placement`; of a method without any, where it runs."""
        ...

    def encode(self, classes: Sequence[CleanClass], settings: Settings) -> Any:
        """Turn class names into the query of a request, which the model reads.

        Args:
            classes: as `clean_names` returns them: a class of several names is a tuple of these.
            settings: settings of the request.

        Raises:
            InputError: the model cannot read a name, or cannot tell two apart.
        """
        ...

    def locate(self, requests: Sequence[Request]) -> list[Located]:
        """Make class maps of a batch of requests; on a GPU the work is queued."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def require_finite(name: str, values: npt.NDArray[np.float32]) -> None:
    """Refuse values that a broken model gives.

    Args:
        name: name of the output, for the error.
        values: values of the output.

    Raises:
        ExecutionError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ExecutionError(
            f"the model's {name} is not finite", "its weights are damaged: export it again"
        )
