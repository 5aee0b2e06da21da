from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pnp_ovss.engine import InputError
from pnp_ovss.engine.inputs import formats, images
from pnp_ovss.engine.inputs.images import load_rgb

EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n"
    b"0 0 moveto 50 50 lineto stroke\nshowpage\n"
)
WMF = b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(4) + b"\x64\x00\x64\x00\x60\x00" + bytes(6) + b"\1\0\t\0"
GRAY = np.linspace(0, 255, 48 * 64).astype(np.uint8).reshape(48, 64)


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Ghostscript that leaves a mark where it is started."""
    mark = tmp_path / "started"
    for name in ("gs", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch '{mark}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return mark


@pytest.mark.parametrize(("data", "kind"), [(EPS, "EPS"), (WMF, "WMF")])
def test_formats_of_drawings_are_refused_by_name(
    tmp_path: Path, ghostscript: Path, data: bytes, kind: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    for image in (tmp_path / "a.jpg", data, io.BytesIO(data), Image.open(io.BytesIO(data))):
        with pytest.raises(InputError, match=f"is {kind}, which is not read") as caught:
            load_rgb(image)
        assert "PNG" in caught.value.cure
    assert not ghostscript.exists()


def test_a_drawing_that_the_application_has_drawn_is_an_image() -> None:
    drawn = Image.open(io.BytesIO(EPS))
    drawn.im, drawn.tile = Image.new("RGB", drawn.size, "red").im, []
    assert load_rgb(drawn).getpixel((1, 1)) == (255, 0, 0)


@pytest.mark.parametrize(
    "kind", ["BMP", "DIB", "ICO", "ICNS", "JPEG2000", "PCX", "PPM", "QOI", "SGI", "TGA", "DDS"]
)
def test_less_common_formats_are_read(kind: str) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip("this Pillow writes none")
    picture, buffer = Image.fromarray(GRAY).convert("RGB").resize((32, 32)), io.BytesIO()
    picture.save(buffer, kind)
    assert load_rgb(buffer.getvalue()).mode == "RGB"


def test_only_formats_that_this_pillow_has_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "RASTER", ("NONE", *formats.RASTER))
    formats._readable.cache_clear()
    try:
        assert "NONE" not in formats._readable()
        assert "PNG" in formats._readable()
    finally:
        formats._readable.cache_clear()


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    picture = Image.new("RGB", (64, 48), (200, 30, 40))
    pillow_heif.from_pillow(picture).save(buffer)
    return buffer.getvalue()


def test_heic_is_read_with_pillow_heif_which_pillow_does_not_notice(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(heic())
    Image.init()
    before = [*Image.ID]
    rgb = load_rgb(tmp_path / "a.jpg")
    assert rgb.size == (64, 48)
    assert np.abs(np.asarray(rgb, int) - (200, 30, 40)).max() <= 4
    assert before == Image.ID
    assert ".heic" not in Image.EXTENSION


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_heic_without_pillow_heif_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, brand: bytes
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(99)
    with pytest.raises(InputError, match="needs pillow-heif") as caught:
        load_rgb(data)
    assert "pip install 'pnp-ovss[heic]'" in caught.value.cure


def test_an_opened_heic_is_decoded() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    assert load_rgb(pillow_heif.HeifImageFile(io.BytesIO(heic()))).size == (64, 48)


def test_limits_hold_for_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic()
    with monkeypatch.context() as lowered:
        lowered.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(InputError, match=r"3072 pixels\n.*MAX_IMAGE_PIXELS to 1000"):
            load_rgb(data)
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match="is 64x48"):
        load_rgb(data)


@given(st.integers(12, 2000), st.binary(max_size=9))
def test_damaged_heic_is_read_or_refused(at: int, new: bytes) -> None:
    data = heic()
    with contextlib.suppress(InputError):
        assert load_rgb(data[:at] + new + data[at + len(new) :]).mode == "RGB"
