"""Open encoded images of the raster formats that Pillow decodes itself, and of HEIC."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import BinaryIO

from PIL import Image

from ..errors import InputError, reason
from .sources import CONVERT

RASTER = (
    *("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "ICO"),
    *("ICNS", "QOI", "SGI", "PSD", "DDS", "PCX", "TGA"),
)
"""Formats that are tried, in this order. TGA has no mark of its own, so it is the last.

Others start a program (EPS), ask for a plug-in (WMF, GRIB, HDF5) or wrap other files (IPTC).
"""

OPENED = frozenset({*RASTER, "MPO", "HEIF"})
"""Formats of an opened PIL image that is decoded: an MPO is opened as a JPEG."""

_HEIF = frozenset(
    {*(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), b"mif1", b"msf1"}
)
_AVIF = frozenset({b"avif", b"avis"})
_HEAD = 256  # bytes, which hold the mark of any format


def open_raster(file: BinaryIO, name: str) -> Image.Image:
    """Open an encoded image; its pixels are not decoded yet.

    Args:
        file: file that can seek, at its start.
        name: name of the image, for errors.

    Raises:
        InputError: the image is of a format that is known and not read.
        Exception: what Pillow raises on a damaged file, and its warnings where they are errors.
    """
    head = file.read(_HEAD)
    file.seek(0)
    if _is_heif(head):
        return _open_heif(file, name)
    try:
        return Image.open(file, formats=_readable())
    except Image.UnidentifiedImageError as error:
        other = _other_format(head[:16])
        if other is None:
            raise
        raise InputError(f"{name} is {other}, which is not read", CONVERT) from error


@cache
def _readable() -> tuple[str, ...]:
    """The formats that this Pillow has a reader for."""
    Image.init()
    return tuple(one for one in RASTER if one in Image.OPEN)


def _other_format(head: bytes) -> str | None:
    """The format that is not read which a file begins like; its reader is not started."""
    for one in Image.ID:
        with contextlib.suppress(Exception):  # readers stumble over short files
            _, accepts = Image.OPEN[one]
            if one not in RASTER and accepts and accepts(head) is True:
                return one
    return None


def _is_heif(head: bytes) -> bool:
    """Whether the first box of a file names a brand of HEIF, and none of AVIF, which is one too."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}
    return not brands.isdisjoint(_HEIF) and brands.isdisjoint(_AVIF)


def _open_heif(file: BinaryIO, name: str) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise InputError(
            f"{name} is HEIC, which needs pillow-heif: {reason(error)}",
            "pip install 'pnp-ovss[heic]', or convert it to JPEG",
        ) from error
    image = HeifImageFile(file)  # the reader itself: registered with Pillow it would serve everyone
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if limit is not None and pixels > 2 * limit:  # as `Image.open` does
        raise Image.DecompressionBombError(f"Image size ({pixels} pixels) exceeds {2 * limit}")
    return image
