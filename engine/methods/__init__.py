"""Open methods by name: a method makes class maps of an image and class names."""

from __future__ import annotations

from typing import Protocol

from ..errors import ModelError
from ..model.folder import ModelFolder
from ..precision import PrecisionChoice
from .base import Method


class Open(Protocol):
    """Function that loads a model folder for a method."""

    def __call__(
        self,
        model: ModelFolder,
        *,
        backend: str,
        device: str,
        precision: PrecisionChoice,
        threads: int | None,
    ) -> Method:
        """Load a model folder.

        Raises:
            ModelError: the folder lacks what the method needs.
            BackendError: the backend, the device or the precision cannot be had.
        """
        ...


def _pnp_ovss(
    model: ModelFolder,
    *,
    backend: str,
    device: str,
    precision: PrecisionChoice,
    threads: int | None,
) -> Method:
    from .pnp_ovss import open_pnp_ovss

    return open_pnp_ovss(
        model, backend=backend, device=device, precision=precision, threads=threads
    )


METHODS: dict[str, Open] = {"pnp-ovss": _pnp_ovss}
"""By the name that a manifest gives as its `method`."""


def open_method(
    model: ModelFolder,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    threads: int | None = None,
) -> Method:
    """Load a model folder for the method that its manifest names.

    Args:
        model: model folder.
        backend: "auto", or a key of `runners.BACKENDS`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: precision of the arithmetic.
        threads: number of threads that a graph may use on the CPU; None leaves it to the backend.

    Raises:
        ModelError: the method is not known, or the folder lacks what the method needs.
        BackendError: the backend, the device or the precision cannot be had.
    """
    method = model.manifest.method
    if method not in METHODS:
        raise ModelError(
            f"'{model.path}' is for the method {method!r}; known are: {', '.join(METHODS)}",
            "it may be of a newer pnp-ovss: pip install --upgrade pnp-ovss",
        )
    return METHODS[method](
        model, backend=backend, device=device, precision=precision, threads=threads
    )
