"""What runs a model and where, and what would have been better and could not be had."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import AbsentError, PnpOvssError
from ..precision import PRECISIONS, Arithmetic
from .base import Runner


@dataclass(frozen=True)
class PassedOver:
    """A backend or device that "auto" would have preferred, and why it could not be had.

    Attributes:
        device: Name of the device, "cpu" or "cuda:N".
        backend: Key of `runners.BACKENDS`; None where the device runs none of them.
        reason: Why it could not be had.
        cure: Command or advice that mends it.
        severity: "warning" where it ought to have run, such as a build for another GPU or a GPU
            that CuPy cannot compile for; "note" where it was not installed or built.
    """

    device: str
    backend: str | None
    reason: str
    cure: str
    severity: Literal["note", "warning"]

    @classmethod
    def of(
        cls, error: PnpOvssError, device: str, backend: str | None = None, *, expected: bool
    ) -> PassedOver:
        """Make the record of an error.

        Args:
            error: that was raised for the device or the backend.
            device: see `PassedOver`.
            backend: see `PassedOver`.
            expected: whether even its absence is a defect: a build of it or a driver is there.
        """
        if isinstance(error, AbsentError) and not expected:
            return cls(device, backend, error.brief, error.cure, "note")
        return cls(device, backend, error.cause, error.cure, "warning")

    @property
    def name(self) -> str:
        """Name of the backend and its device, in words."""
        return f"{self.backend} on {self.device}" if self.backend else self.device


@dataclass(frozen=True)
class Placement:
    """What runs a model and where, and what was passed over for it. It can be pickled.

    Attributes:
        device: Name of the device, "cpu" or "cuda:N".
        backend: Key of `runners.BACKENDS`; None for a method that runs no graph.
        precision: Precision of the arithmetic; of several graphs the least exact one.
        builds: File name of the build that runs each loaded graph, by the graph's name; None where
            the backend runs the exported graph itself.
        passed_over: Backends and devices that "auto" tried before, in order.
    """

    device: str
    backend: str | None = None
    precision: Arithmetic | None = None
    builds: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    passed_over: tuple[PassedOver, ...] = ()

    @classmethod
    def of(
        cls,
        device: str,
        backend: str | None,
        runners: Mapping[str, Runner],
        passed_over: tuple[PassedOver, ...],
    ) -> Placement:
        """Make the record of loaded graphs, given by name."""
        precisions: set[Arithmetic] = {one.precision for one in runners.values()}
        least_exact = max(precisions, key=lambda one: PRECISIONS.index(one), default=None)
        files = {name: one.build for name, one in runners.items()}
        return cls(device, backend, least_exact, files, passed_over)

    def __str__(self) -> str:
        """Tell it in a few words: "on cpu with openvino in fp32"."""
        backend = f" with {self.backend}" if self.backend else ""
        return f"on {self.device}{backend}" + (f" in {self.precision}" if self.precision else "")

    def log(self, logger: logging.Logger) -> None:
        """Write it to a log: a defect as a warning, everything else for information."""
        logger.info("running %s", self)
        for one in self.passed_over:
            level = logging.WARNING if one.severity == "warning" else logging.INFO
            logger.log(level, "passed over %s: %s; to mend it: %s", one.name, one.reason, one.cure)
