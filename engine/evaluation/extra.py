"""Require packages that only parts of an evaluation need."""

from __future__ import annotations

import importlib

from ..errors import BackendError


def require(package: str, purpose: str) -> None:
    """Check that a package of the extra `evaluate` can be imported.

    Args:
        package: onnx or matplotlib.
        purpose: beginning of the error, such as "figures need".

    Raises:
        BackendError: the package cannot be imported.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise BackendError(
            f"{purpose} {package}: {error}", "pip install 'pnp-ovss[evaluate]'"
        ) from error
