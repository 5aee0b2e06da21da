"""Make images to refuse: files of every format that are damaged, odd arrays, no images at all."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from tests.fuzz.mutate import EDGES, damaged

MODES = {
    "PNG": ("1", "L", "LA", "P", "PA", "I;16", "RGB", "RGBA", "I"),
    "TIFF": ("1", "L", "LA", "P", "I;16", "I", "F", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"),
    "JPEG": ("L", "RGB", "CMYK", "1"),
    "GIF": ("1", "L", "P", "RGBA"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "PPM": ("1", "L", "I", "I;16", "RGB", "F"),
    "TGA": ("L", "LA", "P", "RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
    "ICO": ("RGB", "RGBA"),
    **dict.fromkeys(
        ("AVIF", "QOI", "MPO", "ICNS", "IM", "PCX", "SGI", "SPIDER"), ("RGB", "L", "RGBA")
    ),
    **dict.fromkeys(
        ("BLP", "DDS", "MSP", "PALM", "XBM", "EPS", "PDF", "DIB"), ("1", "P", "L", "RGB")
    ),
}
COMPRESSIONS = (
    *(None, "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "group3", "group4"),
    *("jpeg", "lzma", "zstd", "webp"),
)
SUFFIXES = (".png", ".jpg", ".tif", ".gif", ".webp", ".bmp", ".ico", ".eps", ".txt", "", ".JPEG")
_EXIF = 0x0112  # orientation


def make(random: Random, folder: Path) -> Any:
    """Make what is given as an image; most are files in `folder`."""
    ways = (_file, _file, _file, _in_memory, _opened, _array, _nonsense)
    return random.choice(ways)(random, folder)


def data(random: Random) -> bytes:
    """Make the bytes of an image file; of ten, nine are damaged."""
    whole = random.choice(_valid())
    if random.random() < 0.1:
        return whole
    if whole.startswith(b"\x89PNG") and random.random() < 0.6:
        return _damaged_png(random, whole)
    return damaged(random, whole, random.choice(_valid()))


@cache
def _valid() -> list[bytes]:
    """Write a small picture in every format and mode that this Pillow writes."""
    Image.init()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((23, 17))
    made: list[bytes] = []
    for name, modes in MODES.items():
        for mode in modes:
            for options in _options(name, picture):
                with io.BytesIO() as file:
                    try:
                        _converted(picture, mode).save(file, name, **options)
                    except (KeyError, OSError, RuntimeError, ValueError):
                        continue  # this Pillow has no such format, or not in this mode
                    made.append(file.getvalue())
    return made


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257)
    if mode == "LAB":
        return Image.frombytes("LAB", picture.size, picture.tobytes())
    return (
        picture.convert("RGBA").convert("LA").convert(mode)
        if mode == "PA"
        else picture.convert(mode)
    )


def _options(name: str, picture: Image.Image) -> Iterator[dict[str, Any]]:
    yield {}
    if name == "TIFF":
        yield from ({"compression": one} for one in COMPRESSIONS)
    if name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        for orientation in (1, 5, 6, 9):
            exif = Image.Exif()
            exif[_EXIF] = orientation
            yield {"exif": exif}
    if name == "JPEG":
        yield {"progressive": True}
        yield {"exif": b"Exif\0\0" + bytes(range(64))}
    if name in ("GIF", "PNG", "WEBP", "TIFF", "MPO"):
        yield {"save_all": True, "append_images": [picture.rotate(90), picture]}
    if name in ("GIF", "PNG"):
        yield {"transparency": 3}


def _damaged_png(random: Random, whole: bytes) -> bytes:
    """Damage chunks of a PNG whose checksums are right all the same."""
    chunks: list[tuple[bytes, bytes]] = []
    place = 8
    while place < len(whole):
        (size,) = struct.unpack(">I", whole[place : place + 4])
        chunks.append((whole[place + 4 : place + 8], whole[place + 8 : place + 8 + size]))
        place += 12 + size
    for _ in range(random.choice((1, 2))):
        at = random.randrange(len(chunks))
        kind, content = chunks[at]
        way = random.randrange(5)
        if way == 0:
            chunks.insert(random.randrange(len(chunks)), (kind, content))
        elif way == 1 and len(chunks) > 1:
            del chunks[at]
        elif way == 2 and chunks[0][0] == b"IHDR":
            sides = struct.pack(">II", random.choice(EDGES), random.choice((1, 17, *EDGES)))
            chunks[0] = (b"IHDR", sides + chunks[0][1][8:])
        elif way == 3:
            kind = random.choice((b"tRNS", b"PLTE", b"eXIf", b"iTXt", b"zTXt", b"iCCP", b"acTL"))
            chunks.insert(
                random.randrange(len(chunks) + 1), (kind, random.randbytes(random.randrange(40)))
            )
        else:
            chunks[at] = (kind, damaged(random, content))
    made = b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return whole[:8] + made


def _file(random: Random, folder: Path) -> str | Path:
    path = folder / f"image{random.choice(SUFFIXES)}"
    path.write_bytes(data(random))
    return random.choice((str, Path))(path)


def _in_memory(random: Random, folder: Path) -> Any:
    """Make the bytes of a file, or a file object that is odd now and then."""
    content = data(random)
    return random.choice(
        (
            lambda: content,
            lambda: bytearray(content),
            lambda: memoryview(content)[::-1],
            lambda: io.BytesIO(content),
            lambda: io.StringIO("text"),
            lambda: io.BufferedReader(io.BytesIO(content)),
            lambda: _closed(content),
            lambda: _Reader(random, content),
        )
    )()


def _closed(content: bytes) -> io.BytesIO:
    file = io.BytesIO(content)
    file.close()
    return file


class _Reader:
    """A file of somebody's own making: it gives a few bytes, another type, an error, no end."""

    def __init__(self, random: Random, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self._way = random.randrange(6)

    def read(self, size: int = -1) -> Any:
        if self._way == 0:
            raise RuntimeError("no")
        if self._way == 1:
            return "text"
        if self._way == 2:
            return None
        if self._way == 3:
            return b"\0" * size
        return self._file.read(min(size, 7) if self._way == 4 else size)


def _opened(random: Random, folder: Path) -> Any:
    """Open a file by Pillow, which decodes it later; where it refuses, the path is given."""
    path = _file(random, folder)
    try:
        opened = Image.open(io.BytesIO(Path(path).read_bytes()))
    except Exception:  # Pillow refuses it as it likes
        return path
    way = random.randrange(4)
    if way == 0:
        opened.close()
    if way == 1:
        opened.info["transparency"] = random.choice((None, -1, 300, b"", b"\0" * 300, (1, 2), "x"))
    return opened


def _array(random: Random, folder: Path) -> Any:
    dtype = random.choice(
        ("uint8", "uint8", "uint8", "int8", "uint16", "float32", "float64", "bool")
    )
    sides = [
        random.choice((0, 1, 2, 3, 4, 17)) for _ in range(random.choice((0, 1, 2, 3, 3, 3, 3, 4)))
    ]
    if len(sides) == 3 and random.random() < 0.7:
        sides[2] = 3
    count = int(np.prod(sides))
    values = np.frombuffer(random.randbytes(count * np.dtype(dtype).itemsize), dtype)
    return random.choice(_ARRAYS)(values.reshape(sides), folder)


class _Subclass(np.ndarray):
    def __array_finalize__(self, _: Any) -> None:
        self.flags.writeable = False


def _mapped(array: Any, folder: Path) -> Any:
    if not array.size:
        return array
    np.save(folder / "array.npy", array)
    return np.load(folder / "array.npy", mmap_mode="r")


_ARRAYS: tuple[Callable[[Any, Path], Any], ...] = (
    lambda array, _: array,
    lambda array, _: array.copy(),
    lambda array, _: np.asfortranarray(array),
    lambda array, _: array[::-1] if array.ndim else array,
    lambda array, _: array[..., ::-1] if array.ndim else array,
    lambda array, _: np.repeat(array, 2, axis=0)[::2] if array.ndim else array,
    lambda array, _: array.astype(object),
    lambda array, _: array.view(_Subclass),
    lambda array, _: np.ma.masked_array(array),
    lambda array, _: np.broadcast_to(array, (3, *array.shape)),
    lambda array, _: array.astype(array.dtype.newbyteorder()),
    _mapped,
)


class _NoPath:
    def __fspath__(self) -> str:
        raise RuntimeError("no path")


class _BytesPath:
    def __fspath__(self) -> bytes:
        return b"image.png"


def _nonsense(random: Random, folder: Path) -> Any:
    return random.choice(_NONSENSE)(folder)


def _link(folder: Path, to: str) -> Path:
    path = folder / "link.png"
    path.symlink_to(to)
    return path


_NONSENSE: tuple[Callable[[Path], Any], ...] = (
    lambda folder: folder,
    lambda folder: folder / "missing.png",
    lambda folder: str(folder / "missing.png") + "/",
    lambda folder: f"{folder}/\0.png",
    lambda folder: f"{folder}/\ud800\udcff.png",
    lambda folder: folder / ("x" * 300),
    lambda folder: "/".join("x" * 3000),
    lambda folder: _link(folder, "link.png"),
    lambda folder: _link(folder, "nowhere"),
    lambda folder: _link(folder, "/dev/null"),
    lambda _: "",
    lambda _: "/proc/self/mem",
    lambda _: "~nobody_here/x.png",
    lambda _: _NoPath(),
    lambda _: _BytesPath(),
    lambda _: None,
    lambda _: 7,
    lambda _: [[1, 2, 3]],
    lambda _: {"path": "x.png"},
    lambda _: object(),
    lambda _: Image,
    lambda _: os.environ,
    lambda _: Image.new("RGB", (0, 5)),
    lambda _: Image.new("F", (2, 2), float("nan")),
    lambda _: Image.new("I", (2, 2), -(2**31)),
    lambda _: Image.new("1", (1, 1)),
    lambda _: Image.new("RGB", (1, 60_000)),
    lambda _: Image.new("L", (8000, 8000)),
)
