"""What every backend offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..device import Array, Device
from ..precision import Arithmetic


class Runner(Protocol):
    """One loaded graph. Arrays live on the runner's device."""

    @property
    def device(self) -> Device:
        """Where it really runs."""
        ...

    @property
    def precision(self) -> Arithmetic:
        """Precision in which it really runs."""
        ...

    @property
    def build(self) -> str | None:
        """File name of the build that it runs; None where it runs the exported graph itself."""
        ...

    def run(
        self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Outputs by name; where `outputs` names some, only what they need need be computed.

        On a GPU, `device.on_stream()` is in force; the work is queued on the device's stream, and
        nothing waits for it. What is returned may be overwritten by the next run.
        """
        ...

    def close(self) -> None:
        """Free the graph."""
        ...
