"""A refusal before the machine runs out of memory, rather than a killed process."""

from __future__ import annotations

import math
import os

from .errors import InputError


def require_memory(needed: int, purpose: str, cure: str) -> None:
    """Refuse work that cannot fit in this machine's memory.

    Args:
        needed: bytes.
        purpose: what needs them.
        cure: what to do instead.

    Raises:
        InputError: the machine has less.
    """
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system: the allocation will tell
        return
    if needed > present:
        raise InputError(
            f"{purpose} needs about {math.ceil(needed / 2**30)} GiB of memory;"
            f" this machine has {present // 2**30}",
            cure,
        )
