"""Errors that users meet: each says what is wrong, and what mends it."""

from __future__ import annotations

import errno
import logging
import re
import reprlib
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class PnpOvssError(Exception):
    """Base of every error that this package raises on purpose.

    Attributes:
        cause: what is wrong, with the value that was wrong, in one line.
        cure: what mends it, a command where there is one, in one line.
        exit_code: exit code of a command that ends with the error: 2 for bad input, 1 for work
            that failed.
    """

    exit_code = 2

    def __init__(self, cause: str, cure: str = "") -> None:
        self.cause: str = _one_line(cause)
        self.cure: str = _one_line(cure)
        super().__init__(f"{self.cause}\n{self.cure}" if cure else self.cause)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cause, self.cure), self.__dict__


class InputError(PnpOvssError, ValueError):
    """An image, a class name or a setting that cannot be used."""


class ModelError(PnpOvssError):
    """A model folder or checkpoint that is missing, broken or of another version."""


class BackendError(PnpOvssError):
    """A backend, device or optional package that was asked for and cannot be had."""


class AbsentError(BackendError):
    """A backend or device that was not installed, built or plugged in; nothing is broken.

    Args:
        cause: see `PnpOvssError`.
        cure: see `PnpOvssError`.
        brief: the cause in a few words, for a list; the cause itself by default.
    """

    def __init__(self, cause: str, cure: str = "", brief: str = "") -> None:
        super().__init__(cause, cure)
        self.brief: str = brief or cause


class NotInstalledError(AbsentError):
    """A package that is not installed; the cure installs it."""


class OutputError(PnpOvssError):
    """A result that cannot be written."""


class ExecutionError(PnpOvssError):
    """Work that failed although the input was good."""

    exit_code = 1


def model_closed() -> ExecutionError:
    """Make the error of whoever uses a model that was closed."""
    return ExecutionError("the model was closed", "load it again")


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLACES = re.compile(r"Exception from |Check '.*' failed at ")
"""Lines of OpenVINO that say where in its sources it failed; the reason follows in several."""


def of_one_image(error: Exception) -> PnpOvssError:
    """Make any error that one image met the error of that image, so that others go on.

    Args:
        error: what was raised; the result has it as its `__cause__` where it is another.

    Raises:
        Exception: what a signal handler of the application raised, such as a limit of time.
    """
    signaled = _raised_by_signal(error)
    if signaled is not None:
        raise signaled
    if isinstance(error, PnpOvssError):
        return error
    if isinstance(error, MemoryError):
        made = ExecutionError(
            "there is not enough memory for this image",
            "scale it down, name fewer classes, or take a smaller --batch-size",
        )
    else:
        made = ExecutionError(
            f"unexpected {type(error).__name__}: {reason(error)}",
            "this is a defect: please report it with the traceback, which is in the log",
        )
        _log.error("%s", made.cause, exc_info=error)
    made.__cause__ = error
    return made


def attempt(function: Callable[[], Result]) -> Result | PnpOvssError:
    """Call a function, and return its error in place of its result: an image fails alone."""
    try:
        return function()
    except Exception as error:
        return without_traceback(of_one_image(error))


def without_traceback(error: PnpOvssError) -> PnpOvssError:
    """Free what the frames of an error hold, such as images: it would live as long as the error."""
    for one in _chain(error):
        one.__traceback__ = None
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """List an error and those that it came from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _raised_by_signal(error: BaseException) -> BaseException | None:
    """Find what a signal handler raised, in an error or what it came from."""
    if threading.current_thread() is not threading.main_thread():
        return None  # where no handler runs
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    for one in _chain(error):
        frames = [frame.f_code for frame, _ in traceback.walk_tb(one.__traceback__)]
        if handlers.intersection(frames):
            return one
    return None


def _code(handler: Any) -> Any:
    """Return the code of a signal handler in Python; None of any other."""
    handler = getattr(handler, "func", handler)  # of a partial
    return getattr(handler, "__code__", None)  # of a method, too


def reason(error: BaseException) -> str:
    """Return in one line why another library failed, or the type of its error if it has no text.

    That is the first line of the error; of OpenVINO's, all lines but places in its sources.
    """
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    told = [line for line in lines if not _PLACES.match(line)]
    if told and len(told) < len(lines):
        return ": ".join(told)
    return getattr(error, "strerror", None) or (lines[0] if lines else type(error).__name__)


def lacks_resources(error: BaseException) -> ExecutionError | None:
    """Tell whether a library failed for want of memory or threads; None where it did not.

    Args:
        error: what the library raised while it loaded a model.
    """
    said = str(error)
    if not isinstance(error, MemoryError) and not any(one in said for one in _RESOURCES):
        return None
    return ExecutionError(
        f"there is not enough memory, or no thread left, to load the model: {reason(error)}",
        "raise the limits of the process (ulimit -v, ulimit -u, the container's), or take fewer"
        " threads: threads=1, --threads 1",
    )


_RESOURCES = ("bad_alloc", "pthread_create", "Resource temporarily unavailable", "bad allocation")


def cannot_import(
    package: str, module: str, error: Exception, install: str, *, needed_for: str = ""
) -> BackendError:
    """Tell a package that is not installed from one that is, and is broken.

    Args:
        package: its name, for people.
        module: its name in Python, which could not be imported.
        error: what the import raised.
        install: the command that installs it.
        needed_for: beginning of the sentence, which tells what was asked for that needs it.

    Returns:
        The error to raise: a `NotInstalledError` where the module is not there.
    """
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        missing = f"{package} is not installed"
        return NotInstalledError(f"{needed_for}{missing}", install, missing)
    return BackendError(f"{needed_for}{package} cannot be imported: {reason(error)}", install)


def _one_line(text: str) -> str:
    """Write control characters and line breaks, as names of files may have them, as escapes."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def shown(value: object) -> str:
    """Write a value in a line, shortened, for an error."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except Exception:  # what callers give may raise anything, and very long numbers do
        return f"of type {type(value).__name__}"


def printable(text: str) -> str:
    """Write what is not valid Unicode in a text, as in some file names, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@contextmanager
def writing_to(place: Path, instead: str) -> Generator[None, None, None]:
    """Turn the system's errors while writing into an `OutputError` with a cure.

    Args:
        place: file or folder that is written.
        instead: cure where the file or folder cannot be written.

    Raises:
        OutputError: the system refused to write.
    """
    try:
        yield
    except OSError as error:
        cure = instead
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            cure = f"free some space, or {cure}"
        elif error.errno == errno.ENAMETOOLONG:
            cure = "shorten the name"
        raise OutputError(f"cannot write to '{place}': {reason(error)}", cure) from error
