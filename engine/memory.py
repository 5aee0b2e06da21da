"""A refusal before the machine runs out of memory, rather than a killed process."""

from __future__ import annotations

import math
import os
from pathlib import Path

from .errors import InputError

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def require_memory(needed: int, purpose: str, cure: str) -> None:
    """Refuse work that cannot fit in this machine's memory.

    Args:
        needed: bytes.
        purpose: what needs them.
        cure: what to do instead.

    Raises:
        InputError: the machine has less.
    """
    present = memory()
    if present is not None and needed > present:
        raise too_large(f"about {math.ceil(needed / 2**30)} GiB", present, purpose, cure)


def too_large(needed: str, present: int, purpose: str, cure: str) -> InputError:
    """The error that says so."""
    return InputError(
        f"{purpose} needs {needed} of memory; there are {present / 2**30:.0f} GiB", cure
    )


def memory() -> int | None:
    """Bytes that this process may use: the machine's, or its container's where that is less."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system: the allocation will tell
        return None
    try:
        return min(present, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return present
