"""Keep threads apart that decode the same opened PIL image, which Pillow does not."""

from __future__ import annotations

import os
import threading

_COUNT = 997  # so many that two images seldom share one; a prime, as addresses have even steps
_locks = [threading.Lock() for _ in range(_COUNT)]


def lock_of(image: object) -> threading.Lock:
    """Return the lock that all threads hold while they decode an image."""
    return _locks[id(image) % _COUNT]


def _renew() -> None:
    """Forget who held a lock: of all threads only the one that forked lives on in the child."""
    global _locks
    _locks = [threading.Lock() for _ in range(_COUNT)]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
