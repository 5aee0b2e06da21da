"""Convert decoded images of any mode and depth to 8-bit RGB, or refuse them."""

from __future__ import annotations

from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image

from ..errors import InputError

_DEEP: WeakValueDictionary[int, Image.Image] = WeakValueDictionary()
"""Opened images, by their id, of whose samples Pillow kept the upper 8 bits; it forgets that."""

_BITS, _PHOTOMETRIC, _PLANES = 258, 262, 284  # tags of TIFF


class Depth(NamedTuple):
    """How deep the samples of an image are in its file.

    Attributes:
        deep: whether Pillow keeps the upper 8 of 16 bits of each color.
        highest: value that means white in a gray deeper than 8 bits; None where it is unknown.
        fault: why Pillow would decode it wrongly; empty if it would not.
    """

    deep: bool
    highest: int | None
    fault: str


def marks_depth(image: Image.Image) -> Depth:
    """Find out how deep the samples of an image are, before Pillow decodes it and forgets."""
    tiles: list[Any] = getattr(image, "tile", None) or []
    if image.mode[0] != "I" and any(_is_deep(tile) for tile in tiles):
        _DEEP[id(image)] = image
    deep = _DEEP.get(id(image)) is image
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is None:
        return Depth(deep, None, "")
    bits = max(tags.get(_BITS, (1,)))
    fault = ""
    if bits > 8 and tags.get(_PLANES) == 2 and len(tags[_BITS]) > 1:
        fault = f"stores {bits}-bit colors in separate planes"
    elif bits > 8 and tags.get(_PHOTOMETRIC) == 0:
        fault = f"stores white as 0 in {bits} bits"
    return Depth(deep, 2**bits - 1 if 8 < bits < 16 else None, fault)


def to_rgb(image: Image.Image, depth: Depth, name: str) -> Image.Image:
    """Convert an image to mode RGB.

    Args:
        image: decoded image of any mode; it may be returned itself.
        depth: what `marks_depth` told before it was decoded.
        name: name of the image, for errors.

    Raises:
        InputError: the samples are floating-point values, or their scale is unknown.
    """
    if depth.fault:
        raise InputError(f"{name} {depth.fault}", "save it as PNG, or with 8 bits")
    if image.mode == "F":
        raise InputError(f"{name} holds floating-point values", "convert it to 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_deep_gray(image, depth.highest, name)
    if depth.deep:
        image = _of_upper_bits(image, name)
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_deep(tile: Any) -> bool:
    """Whether a tile of Pillow's has 16 bits a sample: (decoder, box, offset, arguments)."""
    decoder, _, _, arguments = tile
    raw = arguments if isinstance(arguments, str) else [*(arguments or ""), ""][0]
    return decoder == "SGI16" or ";16" in str(raw)


def _from_deep_gray(image: Image.Image, highest: int | None, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    peak = int(values.max())
    if values.min() < 0 or peak > 0xFFFF:
        raise InputError(f"{name} holds grays outside 16 bits", "convert it to 8 or 16 bits")
    if highest is None and 0 < peak < 1 << 14:
        depth = 16 if ";16" in image.mode else 32
        raise _too_dark(f"the highest gray of {name} is {peak}", peak.bit_length(), depth)
    highest = highest or 0xFFFF
    gray = ((values * 255 + highest // 2) // highest).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return Image.fromarray(np.repeat(gray[..., None], 3, axis=2))


def _of_upper_bits(image: Image.Image, name: str) -> Image.Image:
    """Refuse colors so dark in 16 bits that they must have fewer; Pillow has kept the upper 8."""
    bands = image.getextrema()
    colors: Any = bands if isinstance(bands[0], tuple) else (bands,)
    alpha = image.mode.endswith(("A", "a"))
    peak = max(high for _, high in (colors[:-1] if alpha else colors))
    if peak < 1 << 6:
        cause = f"the highest color of {name} is below {(peak + 1) << 8}"
        raise _too_dark(cause, peak.bit_length() + 8, 16)
    transparent: Any = image.info.get("transparency")
    if transparent is not None:
        image.info["transparency"] = tuple(np.right_shift(transparent, 8).tolist())
    return image


def _too_dark(cause: str, bits: int, depth: int) -> InputError:
    return InputError(
        f"{cause}, which takes {bits} of {depth} bits",
        "the scale of its values is unknown: scale them to 8 bits first",
    )
