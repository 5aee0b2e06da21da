"""Packages that only some of an evaluation needs."""

from __future__ import annotations

import importlib

from ..errors import BackendError


def require(package: str, purpose: str) -> None:
    """Find out whether a package of the extra `evaluate` can be imported.

    Args:
        package: onnx or matplotlib.
        purpose: beginning of the error: what needs it.

    Raises:
        BackendError: it cannot.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise BackendError(
            f"{purpose} {package}: {error}", "pip install 'pnp-ovss[evaluate]'"
        ) from error
