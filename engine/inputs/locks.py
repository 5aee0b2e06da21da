"""Keep threads apart that decode the same opened PIL image, which Pillow does not."""

from __future__ import annotations

from ..fork import Lock

_COUNT = 997  # so many that two images seldom share one; a prime, as addresses have even steps
_LOCKS = [Lock() for _ in range(_COUNT)]


def lock_of(image: object) -> Lock:
    """Return the lock that all threads hold while they decode an image."""
    return _LOCKS[id(image) % _COUNT]
