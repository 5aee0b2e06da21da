"""Refuse work that does not fit into memory, before the system kills the process."""

from __future__ import annotations

import math
import os
from pathlib import Path

from .errors import InputError

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def require_memory(needed: int, purpose: str, cure: str) -> None:
    """Refuse work that cannot fit in this machine's memory.

    Args:
        needed: memory that the work takes, in bytes.
        purpose: what the work is, for the error.
        cure: what to do instead.

    Raises:
        InputError: the machine has less memory than is needed.
    """
    present = memory()
    if present is not None and needed > present:
        raise too_large(f"about {math.ceil(needed / 2**30)} GiB", present, purpose, cure)


def too_large(needed: str, present: int, purpose: str, cure: str) -> InputError:
    """Make the error that says that work needs more memory than is present."""
    return InputError(
        f"{purpose} needs {needed} of memory; there are {present / 2**30:.0f} GiB", cure
    )


def memory() -> int | None:
    """Return the bytes that this process may use: those of the machine, or of its container."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system: the allocation will tell
        return None
    try:
        return min(present, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return present
