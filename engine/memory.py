"""Refuse work that does not fit into memory, before the system kills the process."""

from __future__ import annotations

import math

from .errors import InputError
from .limits import memory_left

_SMALL = 1 << 22  # bytes that are not worth the look at the system's limits


def require_memory(needed: int, purpose: str, cure: str) -> None:
    """Refuse work that cannot fit into the memory that this process may take.

    Args:
        needed: memory that the work takes, in bytes.
        purpose: what the work is, for the error.
        cure: what to do instead.

    Raises:
        InputError: less memory is left than is needed; see `limits.memory_left`.
    """
    if needed < _SMALL:
        return
    left = memory_left()
    if left is not None and needed > left:
        raise too_large(f"about {amount(needed, up=True)}", left, purpose, cure)


def too_large(needed: str, left: int, purpose: str, cure: str) -> InputError:
    """Make the error that says that work needs more memory than is left."""
    return InputError(f"{purpose} needs {needed} of memory; there are {amount(left)}", cure)


def amount(size: int, *, up: bool = False) -> str:
    """Write a number of bytes in GiB, or in MiB where it is less than one; rounded down or up."""
    rounded = math.ceil if up else math.floor
    if size < 2**30:
        return f"{rounded(size / 2**20)} MiB"
    return f"{rounded(size / 2**30 * 10) / 10} GiB"
