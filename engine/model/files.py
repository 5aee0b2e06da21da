"""Hold the files of a model folder open, and find out whether they are still what was read."""

from __future__ import annotations

import hashlib
import os
import stat
import weakref
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import ModelError, model_closed, reason
from ..fork import Lock
from .manifest import AGAIN, FileRecord

DEPLOY = (
    "load it again; to replace a model that is in use, write another folder, turn a link to it"
    " (ln -sfn), and keep the old one while it is in use"
)


class _State(NamedTuple):
    """What the system tells of a file without reading it."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    def is_same_file(self, other: _State) -> bool:
        return (self.device, self.inode) == (other.device, other.inode)


class ModelFiles:
    """The files of a model folder, checked against its manifest and held open.

    Some backends map the weights into memory and read them while they run. Others open a graph when
    it first runs. So a file that is written to in the meantime would change results in silence.
    A folder that is replaced by renaming does no harm to what is open.

    Args:
        folder: path of the folder.
        records: size and sha256 of each file, by its path from the folder.
        verify: whether the sha256 is compared, not only the size.

    Raises:
        ModelError: a file is missing, cannot be read, or is not what its record says.
    """

    def __init__(self, folder: Path, records: Mapping[str, FileRecord], verify: bool) -> None:
        self._folder = folder
        self._records = dict(records)
        self._verify = verify
        self._closed = False
        self._open: dict[str, int] = {}
        self._states: dict[str, _State] = {}
        self._lock = Lock()
        self._close = weakref.finalize(self, _close, self._open)
        try:
            for name, record in records.items():
                self._add(name, record)
        except BaseException:
            self._close()
            raise

    def close(self) -> None:
        """Close the files; whoever checks them afterwards uses a model that was closed."""
        with self._lock:
            self._closed = True
            self._close()

    @contextmanager
    def unchanged(self, names: Iterable[str]) -> Generator[None, None, None]:
        """Refuse, before and after the block, files that were replaced or written to.

        A library that opens them by their paths within the block reads what was verified.

        Args:
            names: paths of files from the folder.

        Raises:
            ModelError: a file is not the one that was loaded.
        """
        names = list(names)
        self._require_same(names)
        yield
        self._require_same(names)

    def require_unwritten(self) -> None:
        """Refuse to go on where somebody wrote into the files that are open.

        Raises:
            ModelError: the contents of a file were changed.
            ExecutionError: the model was closed.
        """
        with self._lock:
            if self._closed:
                raise model_closed()
            for name, descriptor in self._open.items():
                state = _state(descriptor)
                if state != self._states[name]:
                    self._compare(name, descriptor, state)

    def _add(self, name: str, record: FileRecord) -> None:
        path = self._folder / name
        try:
            # without waiting for a pipe
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._open[name] = descriptor
            state = self._states[name] = _state(descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it may have no end
                raise ModelError(f"model file '{path}' is no regular file", AGAIN)
            if state.size != record.size:
                raise ModelError(
                    f"model file '{path}' has {state.size} bytes instead of {record.size}", AGAIN
                )
            if self._verify and sha256_of(descriptor) != record.sha256:
                raise ModelError(
                    f"model file '{path}' was changed: its sha256 is not the manifest's", AGAIN
                )
        except FileNotFoundError as error:
            raise ModelError(f"model file '{path}' is missing", AGAIN) from error
        except OSError as error:
            raise ModelError(
                f"model file '{path}' cannot be read: {reason(error)}", "check its permissions"
            ) from error

    def _require_same(self, names: Iterable[str]) -> None:
        self.require_unwritten()
        for name in names:
            if name not in self._open:
                continue
            path = self._folder / name
            try:
                found = _state(path)
            except OSError as error:
                raise ModelError(
                    f"model file '{path}' was removed since the model was loaded", DEPLOY
                ) from error
            if not found.is_same_file(self._states[name]):
                raise ModelError(
                    f"model file '{path}' was replaced since the model was loaded", DEPLOY
                )

    def _compare(self, name: str, descriptor: int, state: _State) -> None:
        """Accept a file whose times changed, as by a new link to it, and whose contents did not.

        Raises:
            ModelError: the contents changed.
        """
        before = self._states[name]
        unwritten = (state.size, state.modified) == (before.size, before.modified)
        same = unwritten if not self._verify else self._is_as_recorded(name, descriptor, state)
        if not same:
            path = self._folder / name
            raise ModelError(
                f"model file '{path}' was written to while the model was in use", DEPLOY
            )
        self._states[name] = state

    def _is_as_recorded(self, name: str, descriptor: int, state: _State) -> bool:
        record = self._records[name]
        return state.size == record.size and sha256_of(descriptor) == record.sha256


def sha256_of(descriptor: int) -> str:
    """Compute the sha256 of an open file, in hex."""
    digest, place = hashlib.sha256(), 0
    while block := os.pread(descriptor, 1 << 22, place):
        digest.update(block)
        place += len(block)
    return digest.hexdigest()


def _state(file: int | Path) -> _State:
    found = os.stat(file)
    return _State(
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def _close(descriptors: dict[str, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
