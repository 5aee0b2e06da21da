"""Finds the C libraries of this package, which are loaded by ctypes."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec


@cache
def load(name: str) -> ctypes.CDLL:
    """Load a C library, once in a process.

    Args:
        name: name of the module in `pnp_ovss.kernels`: "_densecrf" or "_pixels".

    Raises:
        ImportError: the library was not built.
        OSError: the library cannot be loaded.
    """
    module = f"pnp_ovss.kernels.{name}"
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        cure = "pip install --force-reinstall --no-deps pnp-ovss"
        raise ImportError(f"{module} was not built: {cure}")
    return ctypes.CDLL(spec.origin)


def check(code: int, purpose: str) -> None:
    """Raise the exception that a code of `_pixels` stands for; 0 stands for none.

    Args:
        code: code that a function returned.
        purpose: what the function was called for.

    Raises:
        ValueError: a size or a parameter is out of range.
        MemoryError: memory ran out.
    """
    if code == 2:
        raise MemoryError(purpose)
    if code:
        raise ValueError(f"{purpose}: a size or a parameter is out of range")
