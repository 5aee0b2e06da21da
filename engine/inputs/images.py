"""Decode and check images, and resize them to the input of a model."""

from __future__ import annotations

# pyright: reportUnnecessaryIsInstance=false
# What callers without a type checker may pass is refused in words.
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ...kernels import reference
from ..errors import InputError, reason
from ..model.manifest import Preprocess

MAX_PIXELS = 50_000_000

ImageLike = Image.Image | npt.NDArray[Any] | str | os.PathLike[str]


def load_rgb(image: ImageLike, *, fetch_urls: bool = False) -> Image.Image:
    """Decode an image to 8-bit RGB, upright.

    EXIF rotation is applied. Transparency is laid on white. 16-bit grays are scaled to 8 bits. Of
    an animation the first frame is taken.

    Args:
        image: a PIL image, a uint8 array [H, W, 3], or a path.
        fetch_urls: whether an image may be a URL.

    Returns:
        The image in mode RGB, W x H pixels.

    Raises:
        InputError: the image is missing, damaged, larger than `MAX_PIXELS`, or of no known format.
    """
    if isinstance(image, Image.Image):
        return _decode(image, "the image")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(
                f"image array is {image.dtype} {list(image.shape)}", "it must be uint8 [H, W, 3]"
            )
        return _decode(Image.fromarray(image), "the image")
    if not isinstance(image, str | os.PathLike):
        raise InputError(
            f"image is {type(image).__name__}", "give a PIL image, a uint8 array or a path"
        )
    return _read(Path(image))


def resize(image: Image.Image, preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """Resize an image to the input of a model, by Pillow's bicubic: uint8 [height, width, 3]."""
    height, width = preprocess.sides
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def model_input(image: Image.Image, preprocess: Preprocess) -> npt.NDArray[np.float32]:
    """Resize and normalize an image: float32 [3, height, width]."""
    mean, std = (np.array(one, np.float32) for one in (preprocess.mean, preprocess.std))
    return reference.normalize(resize(image, preprocess)[None], mean, std)[0]


def _read(path: Path) -> Image.Image:
    name = f"image '{path}'"
    if path.is_dir():
        raise InputError(f"'{path}' is a folder", f"name the images in it: {path}/*.jpg")
    try:
        # An open file, since Pillow maps a named one into memory with its sides already swapped
        # where an uncompressed TIFF is to be turned.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = Image.open(file)
            with opened:
                return _decode(opened, name)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"no image at '{path}'", "check the path") from error
    except Image.DecompressionBombError as error:
        limit = f"{MAX_PIXELS // 10**6} megapixels"
        raise InputError(f"{name} has more than {limit}", "scale it down first") from error
    except UnidentifiedImageError as error:
        raise InputError(f"'{path}' is no image of a known format", "give another") from error
    except Exception as error:  # Pillow's readers raise what they like on damaged files
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(f"{name} cannot be read: {reason(error)}", "it is damaged, or no image")


def _decode(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{name} is {width}x{height}, {width * height / 1e6:.0f} megapixels",
            f"the limit is {MAX_PIXELS // 10**6} megapixels: scale it down first",
        )
    if width < 1 or height < 1:
        raise InputError(f"{name} is {width}x{height}", "it has no pixels")
    try:
        return _to_rgb(image, name)
    except InputError:
        raise
    except Exception as error:  # as above; a file is decoded only when its pixels are asked for
        raise _unreadable(name, error) from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise InputError(f"{name} holds floating-point values", "convert it to 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_16_bits(image, name)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(f"{name} holds grays outside 16 bits", "convert it to 8 or 16 bits")
    gray = ((values + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return Image.fromarray(np.repeat(gray[..., None], 3, axis=2))


def take(image: ImageLike, *, fetch_urls: bool = False) -> ImageLike:
    """Stub until the branch is merged."""
    if isinstance(image, str | os.PathLike):
        return image
    return load_rgb(image)
