"""Require packages that only parts of an evaluation need."""

from __future__ import annotations

import importlib

from ..errors import cannot_import


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
    except (ImportError, OSError) as error:  # OSError where a library of it cannot be loaded
        install = "pip install 'pnp-ovss[evaluate]'"
        needed_for = f"{purpose} {package}: "
        raise cannot_import(package, package, error, install, needed_for=needed_for) from error
