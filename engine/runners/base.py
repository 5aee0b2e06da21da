"""Protocol of runners, which every backend offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..device import Array, Device
from ..precision import Arithmetic


class Runner(Protocol):
    """One loaded graph. Arrays live on the runner's device."""

    @property
    def device(self) -> Device:
        """Device that runs the graph."""
        ...

    @property
    def precision(self) -> Arithmetic:
        """Precision of the arithmetic that runs."""
        ...

    @property
    def build(self) -> str | None:
        """File name of the build; None where the exported graph itself runs."""
        ...

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Run the graph.

        On a GPU, `device.on_stream()` must be in force. The work is queued on the device's stream,
        and nothing waits for it.

        Args:
            feeds: inputs by name, on the device.
            outputs: names of the outputs to compute; by default all.

        Returns:
            Outputs by name, on the device; the next run may overwrite them.
        """
        ...

    def close(self) -> None:
        """Free the graph."""
        ...
