"""Make paths of what users write, and find the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from .errors import InputError


def expanded(path: str | os.PathLike[str]) -> Path:
    """Replace the `~` or `~user` that a path begins with.

    Raises:
        InputError: there is no such user, or the user has no home folder.
    """
    text = os.fsdecode(path)
    full = os.path.expanduser(text)
    if text.startswith("~") and full == text and not os.path.lexists(text):
        user = text.split("/")[0]
        raise InputError(
            f"there is no home folder of {user}: '{text}'",
            "give the path in full, or ./ before a name that begins with ~",
        )
    return Path(full)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Make a path independent of the working folder; links and `~` are kept.

    Raises:
        InputError: the path is relative and the working folder was deleted.
    """
    try:
        return Path(path).absolute()
    except OSError as error:
        raise InputError(
            f"'{path}' is relative, and the working folder was deleted",
            "change to a folder that exists, or give the path in full",
        ) from error


def user_cache() -> Path:
    """Return the folder of this package in the user's cache.

    Raises:
        InputError: this user has no home folder.
    """
    try:
        folder = platformdirs.user_cache_path("pnp-ovss")
    except RuntimeError:  # of a newer platformdirs; an older one leaves the ~ where it is
        folder = Path("~")
    if not folder.is_absolute():
        raise InputError(
            "there is no place for the cache: this user has no home folder",
            "set XDG_CACHE_HOME to a folder that can be written",
        )
    return folder
