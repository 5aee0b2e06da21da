"""The errors that users meet: what is wrong, and what mends it."""

from __future__ import annotations


class PnpOvssError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        cause: what is wrong, with the value that was wrong.
        cure: what to do about it; a command where there is one.
    """

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(f"{cause}\n{cure}" if cure else cause)
        self.cause = cause
        self.cure = cure


class InputError(PnpOvssError, ValueError):
    """An image, a class name or a setting that cannot be used."""


class ModelError(PnpOvssError):
    """A model folder or checkpoint that is missing, broken or of another version."""


class BackendError(PnpOvssError):
    """A backend, device or optional package that was asked for and cannot be had."""


class OutputError(PnpOvssError):
    """A result that cannot be written."""
