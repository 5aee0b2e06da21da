"""Decode and check images, and resize them to the input of a model."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
import os
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ...kernels import reference
from ...kernels.cpu import resize as kernels
from ..errors import InputError, reason
from ..memory import require_memory
from ..model.manifest import Preprocess
from ..paths import absolute
from .formats import OPENED, open_raster
from .locks import lock_of
from .pixels import marks_depth, to_rgb
from .sources import CONVERT, Encoded, as_path, checked_url, is_url, open_encoded, read_bytes

MAX_PIXELS = 50_000_000
_PIXEL_BYTES = 16  # of memory: Pillow has 4 bytes each, and up to four copies at a time

ImageLike = Image.Image | npt.NDArray[Any] | Encoded


def load_rgb(image: ImageLike, *, fetch_urls: bool = False) -> Image.Image:
    """Decode an image to 8-bit RGB, upright.

    EXIF rotation is applied. Transparency is laid on white. 16-bit grays are scaled to 8 bits. Of
    an animation the first frame is taken, and of an opened PIL image the frame that it is at.
    Threads may give one opened PIL image at the same time.

    Args:
        image: a PIL image, a uint8 array [H, W, 3], a path, the bytes of an encoded image, a
            binary file object, or a URL. A file object is read from its start if it can seek.
        fetch_urls: whether a string that begins with http:// or https:// may be fetched. Only set
            it where any address that this machine can reach may be asked for.

    Returns:
        The image in mode RGB, W x H pixels. It shares no memory with what was given.

    Raises:
        InputError: the image is missing, damaged, larger than `MAX_PIXELS`, of no format that is
            read, or holds grays of an unknown scale.
        ExecutionError: a URL cannot be fetched now.
    """
    if isinstance(image, Image.Image):
        return _decode(image, "the image")
    if isinstance(image, np.ndarray):
        return _decode(Image.fromarray(_checked_array(image)), "the image")
    return _read(checked_url(image, fetch_urls) if is_url(image) else image)


def take(image: ImageLike, *, fetch_urls: bool = False) -> ImageLike:
    """Take an image over from the caller, who may change, refill or close it afterwards.

    PIL images are decoded, arrays and buffers copied, and file objects read. Bytes, paths and URLs
    stay what they are; a path becomes absolute.

    Args:
        image: what `load_rgb` takes.
        fetch_urls: see `load_rgb`.

    Returns:
        What `load_rgb` makes the same of at any later time. It shares no memory with what was given
        that could change.

    Raises:
        InputError: the image cannot be taken, or a relative path has no working folder.
    """
    if isinstance(image, Image.Image):
        return load_rgb(image)
    if isinstance(image, np.ndarray):
        return np.array(_checked_array(image))
    if is_url(image):
        return checked_url(image, fetch_urls)
    if not isinstance(image, str | os.PathLike):
        return read_bytes(image)
    return absolute(as_path(image))


def resize(image: Image.Image, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """Resize an image to the input of a model, by Pillow's bicubic: uint8 [height, width, 3]."""
    return kernels.resize(np.asarray(image), *preprocess.sides)


def model_input(image: Image.Image, preprocess: Preprocess) -> npt.NDArray[np.float32]:
    """Resize and normalize an image: float32 [3, height, width]."""
    mean, std = (np.array(one, np.float32) for one in (preprocess.mean, preprocess.std))
    return reference.normalize(resize(image, preprocess)[None], mean, std)[0]


def _checked_array(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(
            f"image array is {array.dtype} {list(array.shape)}", "it must be uint8 [H, W, 3]"
        )
    return array


def _read(image: Encoded) -> Image.Image:
    with open_encoded(image) as (file, name):
        try:
            opened = open_raster(file, name)
            with opened:
                return _decode(opened, name)
        except InputError:
            raise
        except UnidentifiedImageError as error:
            raise InputError(f"{name} is no image of a known format", "give another") from error
        except Exception as error:  # Pillow's readers raise what they like on damaged files
            raise _unreadable(name, error) from error


def _decode(image: Image.Image, name: str) -> Image.Image:
    try:
        with lock_of(image):  # Pillow decodes a file when its pixels are asked for
            _check(image, name)
            depth = marks_depth(image)
            upright = ImageOps.exif_transpose(image)  # a copy in any case
        return to_rgb(upright, depth, name)
    except InputError:
        raise
    except Exception as error:
        if _is_closed(image, error):
            raise InputError(f"{name} was closed before it was read", "keep it open") from error
        raise _unreadable(name, error) from error


def _check(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} is {width}x{height}, {width * height / 1e6:.0f} megapixels",
            f"the limit is {MAX_PIXELS // 10**6} megapixels: scale it down first",
        )
    if width < 1 or height < 1:
        raise InputError(f"{name} is {width}x{height}", "it has no pixels")
    purpose = f"{name} of {width}x{height} pixels"
    require_memory(width * height * _PIXEL_BYTES, purpose, "scale it down first")
    if (
        isinstance(image, ImageFile.ImageFile)
        and not _has_pixels(image)
        and image.format not in OPENED
    ):
        raise InputError(
            f"{name} is {image.format or 'of an unnamed format'}, which is not read",
            CONVERT,
        )


def _has_pixels(image: Image.Image) -> bool:
    """Whether Pillow has decoded an image, and so need not start anything to do it."""
    try:
        return bool(image.im)
    except AssertionError:  # there are none yet
        return False


def _is_closed(image: Image.Image, error: Exception) -> bool:
    if "closed" in str(error):
        return True
    lazy = isinstance(image, ImageFile.ImageFile)
    return lazy and image.fp is None and not _has_pixels(image)


def _unreadable(name: str, error: Exception) -> InputError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return _too_large(name, error)
    if isinstance(error, Warning):
        return InputError(
            f"{name} cannot be read without a warning: {reason(error)}",
            "this process makes errors of warnings: except Pillow's, or save the image anew",
        )
    return InputError(f"{name} cannot be read: {reason(error)}", "it is damaged, or no image")


def _too_large(name: str, error: Exception) -> InputError:
    """Tell whose limit struck: Pillow's, which an application may set, or this package's."""
    found = re.search(r"\((\d+) pixels\)", str(error))
    cause = f"{name} has {found[1] if found else 'too many'} pixels"
    limit = Image.MAX_IMAGE_PIXELS or 0
    allowed = 2 * limit if isinstance(error, Image.DecompressionBombError) else limit
    if allowed >= MAX_PIXELS:
        return InputError(
            cause, f"the limit is {MAX_PIXELS // 10**6} megapixels: scale it down first"
        )
    return InputError(
        cause,
        f"this process set PIL.Image.MAX_IMAGE_PIXELS to {limit}, so the limit is {allowed}:"
        " scale the image down first, or set another",
    )
