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
    present = _memory()
    if present is None:
        return
    if needed > present:
        raise InputError(
            f"{purpose} needs about {math.ceil(needed / 2**30)} GiB of memory;"
            f" there are {present // 2**30}",
            cure,
        )


def _memory() -> int | None:
    """Bytes that this process may use: the machine's, or its container's where that is less."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system: the allocation will tell
        return None
    try:
        return min(present, int(_CGROUP_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or "max"
        return present
