from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import InputError
from pnp_ovss.engine.inputs.images import load_rgb

FULL = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
TWELVE = FULL >> 4
LITTLE, BIG = "<u2", ">u2"


def png(color: int, samples: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits, which Pillow does not write in color."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + row.astype(BIG).tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, color, 0, 0, 0)
    mark = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (mark if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(bits: int, photometric: int, data: bytes, samples: int = 1, planes: int = 1) -> bytes:
    """An uncompressed TIFF of 8 x 6 pixels, which Pillow does not write at these depths."""
    strips = samples if planes == 2 else 1
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("H", [8]),
        257: ("H", [6]),
        258: ("H", [bits] * samples),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [0] * strips),
        277: ("H", [samples]),
        278: ("H", [6]),
        279: ("I", [len(data) // strips] * strips),
        284: ("H", [planes]),
    }
    start = 8 + 2 + 12 * len(tags) + 4
    room = sum(struct.calcsize(f"<{len(v)}{kind}") for kind, v in tags.values() if len(v) > 1)
    tags[273] = ("I", [start + room + at * (len(data) // strips) for at in range(strips)])
    entries, beyond = b"", b""
    for tag, (kind, values) in tags.items():
        value = struct.pack(f"<{len(values)}{kind}", *values)
        if len(value) > 4:
            beyond += value
            value = struct.pack("<I", start + len(beyond) - len(value))
        entries += struct.pack("<HHI", tag, {"H": 3, "I": 4}[kind], len(values))
        entries += value.ljust(4, b"\0")
    beyond = beyond.ljust(room, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + beyond + data


def sgi(values: np.ndarray) -> bytes:
    header = struct.pack(">HBBHHHHll", 474, 0, 2, 3, 8, 6, 3, 0, 65535).ljust(512, b"\0")
    return header + np.stack([values] * 3).astype(BIG).tobytes()


def colors(values: np.ndarray, bands: int) -> np.ndarray:
    return np.stack([values] * bands, axis=-1)


def with_alpha(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.full_like(values, 65535)], axis=-1)


def jpeg2000(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG2000")
    return buffer.getvalue()


def of_16_bits(values: np.ndarray) -> dict[str, bytes]:
    rgb = colors(values, 3)
    return {
        "gray PNG": png(0, values),
        "gray TIFF": tiff(16, 1, values.astype(LITTLE).tobytes()),
        "gray of 32 bits": tiff(32, 1, values.astype("<u4").tobytes()),
        "gray PGM": b"P5 8 6 65535\n" + values.astype(BIG).tobytes(),
        "gray JPEG 2000": jpeg2000(values),
        "RGB PNG": png(2, rgb),
        "LA PNG": png(4, with_alpha(values)),
        "RGBA PNG": png(6, np.concatenate([rgb, with_alpha(values)[..., 1:]], axis=-1)),
        "RGB TIFF": tiff(16, 2, rgb.astype(LITTLE).tobytes(), 3),
        "RGB SGI": sgi(values),
    }


@pytest.mark.parametrize("kind", of_16_bits(FULL))
def test_16_bits_are_scaled_to_8(kind: str) -> None:
    found = np.asarray(load_rgb(of_16_bits(FULL)[kind]), int)
    found = found[::-1] if "SGI" in kind else found
    assert np.abs(found - colors(FULL >> 8, 3)).max() <= 1


@pytest.mark.parametrize("kind", of_16_bits(FULL))
@pytest.mark.parametrize("values", [TWELVE, FULL >> 8, FULL >> 2, FULL >> 15])
def test_fewer_bits_in_16_have_no_known_scale(kind: str, values: np.ndarray) -> None:
    opened = Image.open(io.BytesIO(of_16_bits(values)[kind]))
    for image in (of_16_bits(values)[kind], opened, opened):  # the last is decoded already
        with pytest.raises(InputError, match=r"which takes \d+ of (16|32) bits") as caught:
            load_rgb(image)
        if "gray" in kind:
            assert f"is {values.max()}, " in caught.value.cause
        assert "to 8 bits" in caught.value.cure


def test_colors_of_cmyk_have_a_scale_too() -> None:
    assert load_rgb(tiff(16, 5, colors(FULL, 4).astype(LITTLE).tobytes(), 4)).mode == "RGB"
    with pytest.raises(InputError, match="12 of 16 bits"):
        load_rgb(tiff(16, 5, colors(TWELVE, 4).astype(LITTLE).tobytes(), 4))


@pytest.mark.parametrize(
    "image", [png(0, FULL * 0), Image.new("I", (8, 6)), Image.new("I;16", (8, 6))]
)
def test_black_is_black(image: Any) -> None:
    assert load_rgb(image).getextrema() == ((0, 0),) * 3


def test_grays_of_32_bits_that_hold_8_are_refused() -> None:
    with pytest.raises(InputError, match=r"is 255, which takes 8 of 32 bits"):
        load_rgb(Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16)))


def test_tiff_of_12_bits_tells_its_scale() -> None:
    packed = bytes([0x80, 0x00, 0xFF]) * 24  # pairs of 0x800 and 0x0FF
    gray = np.asarray(load_rgb(tiff(12, 1, packed)))[..., 0]
    assert np.unique(gray).tolist() == [16, 128]


@pytest.mark.parametrize("most", [4095, 1023, 300])
@pytest.mark.parametrize("mark", [b"P5", b"P6"])
def test_ppm_tells_its_scale(mark: bytes, most: int) -> None:
    values = np.linspace(0, most, 48).astype(BIG).repeat(3 if mark == b"P6" else 1)
    found = load_rgb(mark + b" 8 6 %d\n" % most + values.tobytes())
    assert found.getextrema() == ((0, 255),) * 3


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (tiff(16, 0, FULL.astype(LITTLE).tobytes()), "stores white as 0"),
        (tiff(16, 2, np.stack([FULL] * 3).astype(LITTLE).tobytes(), 3, 2), "in separate planes"),
    ],
)
def test_what_pillow_would_decode_wrongly_is_refused(data: bytes, cause: str) -> None:
    opened = Image.open(io.BytesIO(data))
    for image in (data, opened, opened):
        with pytest.raises(InputError, match=cause):
            load_rgb(image)


def test_planes_and_white_as_0_are_fine_in_8_bits() -> None:
    assert load_rgb(tiff(8, 0, bytes(48))).getextrema() == ((255, 255),) * 3
    planes = tiff(8, 2, bytes(48) + bytes([9] * 48) + bytes([200] * 48), 3, 2)
    assert load_rgb(planes).getpixel((3, 3)) == (0, 9, 200)


def test_a_transparent_color_of_16_bits_is_laid_on_white() -> None:
    values = colors(np.array([[0x1234, 0xFFFF]]), 3)
    assert load_rgb(png(2, values, (0x1234,) * 3)).getpixel((0, 0)) == (255, 255, 255)
    assert load_rgb(png(2, values, (0x4321,) * 3)).getpixel((0, 0)) == (0x12, 0x12, 0x12)
