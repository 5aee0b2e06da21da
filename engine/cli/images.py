"""Turn what a command line names into images: files, folders, lists, URLs and standard input."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import InputError, reason
from ..inputs.images import ImageLike
from ..inputs.sources import is_url, read_bytes
from ..paths import absolute

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
)
_LONGEST = 100  # bytes of a name that a URL gives; the file system allows 255 with all endings


@dataclass
class FoundImage:
    """One image that a command line names.

    Attributes:
        image: the image, or the error that it is.
        name: its name for people and for the report.
        parts: its folders from the outermost, and its stem; each a plain name of a file.
        kept: number of the last parts that its results are named by.
    """

    image: ImageLike | InputError
    name: str
    parts: tuple[str, ...] = ("",)
    kept: int = 1

    @property
    def stem(self) -> str:
        """Stem of the files of its results, with their sub-folder."""
        return "/".join(self.parts[-self.kept :])

    @cached_property
    def place(self) -> str | None:
        """Where its file really is; None where it is none."""
        return os.path.realpath(self.image) if isinstance(self.image, Path) else None


def find_images(arguments: Sequence[str], output: Path) -> list[FoundImage]:
    """Find the images that are named on a command line.

    An argument is an image file, a folder, a text file of arguments, a URL, or `-` for standard
    input. What cannot be read as one of these is an image with an error. Images of one stem are
    told apart by as few of their folders as it takes.

    Args:
        arguments: words of the command line.
        output: folder of the results, which is left out of a folder of images.

    Raises:
        InputError: a path is relative to a working folder that is gone.
    """
    avoided = os.path.realpath(absolute(output))
    found = [image for argument in arguments for image in _of_argument(argument, avoided)]
    _tell_apart([one for one in found if not isinstance(one.image, InputError)])
    return found


def _of_argument(argument: str, avoided: str, line: str = "") -> Iterator[FoundImage]:
    """Find the images of an argument; `line` names the line of a list that it stands in, if any."""
    if argument == "-":
        yield _of_standard_input()
    elif is_url(argument):
        yield FoundImage(argument, argument, _parts_of_url(argument))
    elif not argument or "\0" in argument:
        yield _failed(argument, f"{argument!r} is no name of an image", "name a file")
    elif os.path.isdir(argument):
        yield from _of_folder(argument, avoided)
    elif argument.lower().endswith(".txt") and os.path.isfile(argument):
        if line:
            cure = "name it on the command line"
            yield _failed(argument, f"'{argument}' is a list within a list", cure)
        else:
            yield from _of_list(argument, avoided)
    else:
        image = _of_file(argument, 1)
        if line and not os.path.lexists(argument):
            cause = f"no image at '{argument}', which {line} names"
            image = _failed(argument, cause, "check the path, which starts at the working folder")
        yield image


def _of_file(path: str, kept: int) -> FoundImage:
    full = _normal(path)
    return FoundImage(Path(path), path, (*full.parts[1:-1], full.stem), kept)


def _normal(path: str) -> Path:
    """Make a path absolute, without `..`, for the names of its folders."""
    return Path(os.path.normpath(absolute(path)))


def _failed(name: str, cause: str, cure: str) -> FoundImage:
    return FoundImage(InputError(cause, cure), name)


def _of_list(path: str, avoided: str) -> Iterator[FoundImage]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        yield _failed(path, f"'{path}' cannot be read: {reason(error)}", "give a UTF-8 text file")
        return
    if not text.strip():
        yield _failed(path, f"the list '{path}' is empty", "write an image in each line")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield from _of_argument(line, avoided, f"line {number} of '{path}'")


def _of_folder(folder: str, avoided: str) -> Iterator[FoundImage]:
    if os.path.realpath(folder) == avoided:
        cure = "choose another folder with --output"
        yield _failed(folder, f"the results would be written among the images in '{folder}'", cure)
        return
    errors: list[OSError] = []
    files: list[str] = []
    for place, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [
            name
            for name in folders
            if name[0] != "." and os.path.realpath(os.path.join(place, name)) != avoided
        ]
        files += [
            os.path.join(place, name)
            for name in names
            if name[0] != "." and name.lower().endswith(SUFFIXES)
        ]
    for error in errors:
        cause = f"folder '{error.filename}' cannot be read: {reason(error)}"
        yield _failed(folder, cause, "check its permissions")
    if not files and not errors:
        cause = f"folder '{folder}' has no image in it"
        yield _failed(folder, cause, f"these files are looked for: {' '.join(SUFFIXES)}")
    depth = len(_normal(folder).parts)
    for path in sorted(files, key=lambda path: path.split(os.sep)):
        yield _of_file(path, len(_normal(path).parts) - depth)


def _of_standard_input() -> FoundImage:
    stream = getattr(sys.stdin, "buffer", None)
    cure = "give it one image, and name - once: pnp-ovss segment - < image.jpg"
    if stream is None or stream.closed:
        return _failed("stdin", "standard input is closed", cure)
    if stream.isatty():
        return _failed("stdin", "standard input is a terminal", cure)
    try:
        data = read_bytes(stream)
    except InputError as error:
        return FoundImage(error, "stdin")
    if not data:
        return _failed("stdin", "standard input is empty", cure)
    return FoundImage(_StandardInput(data), "stdin", ("stdin",))


class _StandardInput(io.BytesIO):
    """What was read from standard input; errors give its name."""

    name = "stdin"


def _parts_of_url(url: str) -> tuple[str, ...]:
    """Plain names of the host, the folders and the stem of a URL, which may be any text."""
    try:
        parts = urlsplit(url)
        host, path = parts.hostname or "", parts.path
    except ValueError:
        return ("url",)  # it cannot be fetched, so nothing gets this name
    *folders, last = [unquote(part) for part in path.split("/") if part] or [host]
    stem = Path(_plain(last)).stem if path.strip("/") else last
    return tuple(_plain(part) for part in (host, *folders, stem))


def _plain(text: str) -> str:
    """Make a name of a file of any text: it names no other folder, and is not too long."""
    name = "".join(
        letter if letter.isprintable() and letter not in "/\\" else "_" for letter in text
    )
    if len(name.encode()) > _LONGEST:
        mark = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = f"{name.encode()[:_LONGEST].decode(errors='ignore')}-{mark}"
    return name if name.strip(".") else f"_{name}"


def _tell_apart(images: Sequence[FoundImage]) -> None:
    """Name images of one stem by one more of their folders, until they differ if they ever do."""
    changed = True
    while changed:
        changed = False
        by_stem: defaultdict[str, list[FoundImage]] = defaultdict(list)
        for one in images:
            by_stem[one.stem].append(one)
        for alike in by_stem.values():
            if len(alike) < 2 or len({one.parts for one in alike}) < 2:
                continue
            if len({one.place or one.name for one in alike}) < 2:
                continue
            for one in alike:
                if one.kept < len(one.parts):
                    one.kept += 1
                    changed = True
