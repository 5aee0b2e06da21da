"""Get at encoded images: files, pipes, file objects, bytes and URLs, none of them without end."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
import contextlib
import inspect
import io
import os
import select
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeGuard, cast

from ..errors import InputError, reason
from .urls import fetch

MAX_BYTES = 250_000_000  # more than MAX_PIXELS take at 4 bytes each
PATIENCE = 10  # seconds that a pipe may give nothing
_CHUNK = 1 << 20
CONVERT = "convert it to PNG or JPEG"


class Readable(Protocol):
    """A binary file object."""

    def read(self, size: int, /) -> bytes:
        """Read `size` bytes at most; none means the end."""
        ...


Encoded = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable


def is_url(image: object) -> TypeGuard[str]:
    """Tell whether an image is given by its URL."""
    return isinstance(image, str) and image[:8].lower().startswith(("http://", "https://"))


def checked_url(url: str, allowed: bool) -> str:
    """Return a URL that may be fetched.

    Raises:
        InputError: the caller did not allow it.
    """
    if not allowed:
        raise InputError(
            f"image '{url}' is a URL, and none is fetched unasked",
            "allow it with Segmenter.load(..., fetch_urls=True), or fetch it and give its bytes",
        )
    return url


@contextlib.contextmanager
def open_encoded(image: Encoded) -> Generator[tuple[BinaryIO, str], None, None]:
    """Open an encoded image as a file that can seek; yield it with its name for errors.

    Raises:
        InputError: there is no such image, it cannot be read, or it is larger than `MAX_BYTES`.
        ExecutionError: a URL cannot be fetched now.
    """
    if is_url(image):
        yield io.BytesIO(fetch(image)), f"image '{image}'"
    elif isinstance(image, str | os.PathLike):
        path = Path(as_path(image))
        with _open(path) as file:
            yield file, f"image '{path}'"
    else:
        name = getattr(image, "name", None)  # that of an opened file
        yield (
            io.BytesIO(read_bytes(image)),
            f"image '{name}'" if isinstance(name, str) else "the image",
        )


def read_bytes(image: bytes | bytearray | memoryview | Readable) -> bytes:
    """Read an encoded image from memory or a file object, from its start if it can seek.

    Raises:
        InputError: it is neither, cannot be read, or is larger than `MAX_BYTES`.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        try:
            data = bytes(image) if memoryview(image).nbytes <= MAX_BYTES else None
        except ValueError as error:
            raise InputError("the bytes of the image were released", "keep them") from error
        if data is None:
            raise _too_long("the image")
        return data
    if not callable(getattr(image, "read", None)):
        raise InputError(
            f"image is {type(image).__name__}",
            "give a PIL image, a uint8 array, a path, bytes, a binary file object or a URL",
        )
    with contextlib.suppress(Exception):  # a pipe cannot; what else is wrong shows on reading
        cast(Any, image).seek(0)
    try:
        return _read_all(image, "the image")
    except InputError:
        raise
    except Exception as error:  # it may be of anyone's making
        raise InputError(
            f"the file of the image cannot be read: {reason(error)}",
            'open it with open(path, "rb"), and keep it open',
        ) from error


def as_path(image: str | os.PathLike[str]) -> str:
    """Return the path of an image as text.

    Raises:
        InputError: it is empty.
    """
    try:
        path = os.fsdecode(image)
    except Exception as error:  # its `__fspath__` may be of anyone's making
        raise InputError(
            f"the path of the image cannot be read: {reason(error)}", "give it as text"
        ) from error
    if not path:
        raise InputError("the path of the image is empty", "give the path of a file")
    return path


@contextlib.contextmanager
def _open(path: Path) -> Generator[BinaryIO, None, None]:
    """Open a file to be read as needed; what is no regular file is read into memory."""
    try:
        if os.path.isdir(path):  # which is false for a name that is too long
            raise InputError(f"'{path}' is a folder", f"name the images in it: {path}/*.jpg")
        # An open file, since Pillow maps a named one into memory with its sides already swapped
        # where an uncompressed TIFF is to be turned.
        # Without waiting: a pipe that nobody writes to would be waited for, for ever.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except FileNotFoundError as error:
        raise InputError(f"no image at '{path}'", "check the path") from error
    except (OSError, ValueError) as error:
        raise _no_file(path, error) from error
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            try:
                data = _read_all(_Pipe(file.fileno(), path), f"image '{path}'")
            except OSError as error:
                raise _no_file(path, error) from error
            yield io.BytesIO(data)
        elif status.st_size > MAX_BYTES:
            raise _too_long(f"image '{path}'")
        else:
            yield file


class _Pipe:
    """Read a pipe or a device; what gives nothing for a while is given up.

    Raises:
        InputError: nothing came.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self._path = path

    def read(self, size: int, /) -> bytes:
        """Read `size` bytes at most; none means the end."""
        waiting = select.poll()  # `select` takes no descriptor from 1024 on
        waiting.register(self._descriptor, select.POLLIN)
        if not waiting.poll(PATIENCE * 1000):
            raise InputError(
                f"image '{self._path}' gave nothing for {PATIENCE} seconds",
                "it is a pipe or a device: write an image to it, or give the path of a file",
            )
        return os.read(self._descriptor, size)


def _read_all(file: Readable, name: str) -> bytes:
    taken = io.BytesIO()
    while True:
        part: Any = file.read(min(_CHUNK, MAX_BYTES + 1 - taken.tell()))
        if not isinstance(part, bytes | bytearray):
            if inspect.iscoroutine(part):
                part.close()  # or Python warns that nobody waited for it
            raise InputError(
                f"the file of {name} gives {type(part).__name__} where bytes are due",
                "open it in binary mode, and give no asynchronous file: give its bytes",
            )
        if not part:
            return taken.getvalue()
        taken.write(part)
        if taken.tell() > MAX_BYTES:
            raise _too_long(name)


def _too_long(name: str) -> InputError:
    return InputError(
        f"{name} is larger than {MAX_BYTES // 10**6} MB", "compress it as PNG or JPEG"
    )


def _no_file(path: Path, error: Exception) -> InputError:
    return InputError(f"image '{path}' cannot be read: {reason(error)}", "check the path")
