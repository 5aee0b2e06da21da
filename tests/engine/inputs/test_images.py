from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, features

from pnp_ovss.engine import InputError
from pnp_ovss.engine.inputs import images
from pnp_ovss.engine.inputs.images import load_rgb, model_input, resize
from pnp_ovss.engine.model.manifest import Preprocess

MODES = [
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB"),
    *("HSV", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"),
]
ORIENTATION = 0x0112
UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]

MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
STD = (0.26862954, 0.26130258, 0.27577711)


def noise(width: int = 13, height: int = 9) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


def load_bytes(data: bytes) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes(data)
        return load_rgb(path)


def assert_says_what_and_how(error: InputError, name: str) -> None:
    assert name in error.cause
    assert error.cure
    assert len(str(error).splitlines()) == 2


@given(
    mode=st.sampled_from(MODES), width=st.integers(1, 40), height=st.integers(1, 40), data=st.data()
)
@example(mode="La", width=1, height=1, data=None)
def test_any_mode_and_size_gives_rgb_of_that_size_or_an_input_error(
    mode: str, width: int, height: int, data: Any
) -> None:
    length = len(Image.new(mode, (width, height)).tobytes())
    seed = data.draw(st.integers(0, 9)) if data else 0
    picture = Image.frombytes(mode, (width, height), np.random.default_rng(seed).bytes(length))
    try:
        rgb = load_rgb(picture)
    except InputError:
        assert mode[0] in "IF"
        return
    assert rgb.mode == "RGB"
    assert rgb.size == (width, height)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_greys_are_scaled_to_8(tmp_path: Path, kind: str) -> None:
    values = np.arange(256, dtype=np.uint16).reshape(16, 16) * np.uint16(257)
    Image.fromarray(values).save(tmp_path / "gray", kind)
    gray = np.asarray(load_rgb(tmp_path / "gray"))
    assert (gray == np.arange(256).reshape(16, 16, 1)).all()


def test_16_bit_greys_in_between_go_to_the_nearest() -> None:
    values = np.array([[0, 128, 129, 65406, 65407, 65535]], np.uint16)
    assert np.asarray(load_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [
        0,
        0,
        1,
        254,
        255,
        255,
    ]


def test_big_endian_16_bit_greys() -> None:
    values = np.array([[0, 257 * 9, 65535]], ">u2")
    picture = Image.frombytes("I;16B", (3, 1), values.tobytes())
    assert np.asarray(load_rgb(picture))[0, :, 0].tolist() == [0, 9, 255]


@pytest.mark.parametrize("value", [-1, 65536])
def test_greys_outside_16_bits_are_refused(value: int) -> None:
    with pytest.raises(InputError, match="outside 16 bits"):
        load_rgb(Image.fromarray(np.full((2, 2), value, np.int32)))


@pytest.mark.parametrize(
    ("mode", "color", "options", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), {}, (255, 255, 255)),
        ("RGBA", (0, 0, 0, 128), {}, (127, 127, 127)),
        ("RGBA", (1, 2, 3, 255), {}, (1, 2, 3)),
        ("LA", (0, 0), {}, (255, 255, 255)),
        ("P", 1, {"transparency": 1}, (255, 255, 255)),
        ("P", 1, {"transparency": 2}, (200, 0, 0)),
        ("L", 7, {"transparency": 7}, (255, 255, 255)),
        ("1", 0, {"transparency": 0}, (255, 255, 255)),
        ("RGB", (9, 8, 7), {"transparency": (9, 8, 7)}, (255, 255, 255)),
        ("RGB", (9, 8, 7), {"transparency": (9, 8, 6)}, (9, 8, 7)),
        ("I;16", 17990, {"transparency": 17990}, (255, 255, 255)),
    ],
)
def test_transparency_is_laid_on_white(
    mode: str, color: Any, options: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    picture = Image.new(mode, (4, 3), color)
    if mode == "P":
        picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    rgb = load_bytes(encoded(picture, "PNG", **options))
    assert rgb.getpixel((1, 1)) == expected


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("RGB", "L", "P", "RGBA", "I;16")),
        *(("TIFF", mode) for mode in ("RGB", "L", "I;16")),
        ("WEBP", "RGB"),
    ],
)
def test_exif_rotation_is_applied(kind: str, mode: str, orientation: int) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.arange(12, dtype=np.uint16).reshape(3, 4) * np.uint16(5000))
    else:
        picture = noise(4, 3).convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    turn = UPRIGHT[orientation]
    upright = picture if turn is None else picture.transpose(turn)
    found = load_bytes(encoded(picture, kind, exif=exif(orientation), **options))
    assert found.size == upright.size
    assert (np.asarray(found) == np.asarray(load_rgb(upright))).all()


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_of_a_jpeg_swaps_the_sides(orientation: int) -> None:
    rgb = load_bytes(encoded(noise(40, 20), "JPEG", exif=exif(orientation)))
    assert rgb.size == ((20, 40) if orientation >= 5 else (40, 20))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_red_looks_red(kind: str) -> None:
    rgb = load_bytes(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind))
    red, green, blue = np.asarray(rgb).reshape(-1, 3).mean(axis=0)
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(kind: str) -> None:
    red, blue = Image.new("RGB", (9, 7), (255, 0, 0)), Image.new("RGB", (9, 7), (0, 0, 255))
    rgb = load_bytes(encoded(red, kind, save_all=True, append_images=[blue]))
    assert rgb.size == (9, 7)
    assert np.abs(np.asarray(rgb, int) - (255, 0, 0)).max() <= 2


def test_the_result_is_a_picture_of_its_own() -> None:
    picture = noise()
    before = picture.tobytes()
    load_rgb(picture).paste((0, 0, 0), (0, 0, 13, 9))
    assert picture.tobytes() == before


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_arrays_of_another_shape_or_type_are_refused(array: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        load_rgb(array)


def test_arrays_need_not_be_contiguous() -> None:
    array = np.asarray(noise())
    for view in (array[::-1, ::2], np.broadcast_to(array[:1], array.shape)):
        assert (np.asarray(load_rgb(view)) == view).all()


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_rgb(tmp_path / "gone.png")
    assert_says_what_and_how(caught.value, "gone.png")


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"not a picture\n" * 9, b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_rgb(tmp_path / "notes.png")
    assert_says_what_and_how(caught.value, "notes.png")


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_rgb(tmp_path)
    assert_says_what_and_how(caught.value, tmp_path.name)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_picture_is_refused(kind: str, part: float) -> None:
    data = encoded(noise(130, 90), kind)
    with pytest.raises(InputError, match="cannot be read"):
        load_bytes(data[: int(len(data) * part)])


def test_a_truncated_picture_opened_by_the_caller_is_refused(tmp_path: Path) -> None:
    data = encoded(noise(130, 90), "PNG")
    with Image.open(io.BytesIO(data[: len(data) // 2])) as picture, pytest.raises(InputError):
        load_rgb(picture)


@pytest.mark.parametrize("size", [(20_000, 20_000), (8_000, 8_000), (50_000_001, 1)])
def test_a_picture_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "huge.ppm").write_bytes(b"P6 %d %d 255\n" % size)
    with pytest.raises(InputError) as caught:
        load_rgb(tmp_path / "huge.ppm")
    assert_says_what_and_how(caught.value, "huge.ppm")
    assert "scale it down" in caught.value.cure


def test_the_limit_itself_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 12)
    assert load_rgb(Image.new("RGB", (4, 3))).size == (4, 3)
    with pytest.raises(InputError):
        load_rgb(Image.new("RGB", (13, 1)))


SEEDS = {
    "png": encoded(noise(), "PNG", exif=exif(6)),
    "png palette": encoded(noise().quantize(7), "PNG", transparency=3),
    "png animated": encoded(noise(), "PNG", save_all=True, append_images=[noise().rotate(90)]),
    "jpeg": encoded(noise(), "JPEG", exif=exif(6), comment=b"hi"),
    "jpeg cmyk": encoded(noise().convert("CMYK"), "JPEG"),
    "gif": encoded(noise().quantize(7), "GIF", save_all=True, append_images=[noise().rotate(90)]),
    "tiff": encoded(noise(), "TIFF", exif=exif(6)),
    "webp": encoded(noise(), "WEBP", exif=exif(6)),
}
Change = tuple[str, int, bytes]
CHANGES: st.SearchStrategy[Change] = st.tuples(
    st.sampled_from(["overwrite", "insert", "remove", "cut"]),
    st.integers(0, 2**16),
    st.binary(min_size=1, max_size=8),
)


def changed(data: bytes, change: Change) -> bytes:
    what, position, new = change
    at = position % (len(data) + 1)
    head, tail = data[:at], data[at:]
    kept = {"overwrite": new + tail[len(new) :], "insert": new + tail, "cut": b""}
    return head + kept.get(what, tail[len(new) :])


@given(seed=st.sampled_from(sorted(SEEDS)), changes=st.lists(CHANGES, min_size=1, max_size=6))
def test_damaged_pictures_are_read_or_refused(seed: str, changes: list[Change]) -> None:
    data = SEEDS[seed]
    for change in changes:
        data = changed(data, change)
    for action in ("ignore", "error"):  # Pillow warns of some damage
        with warnings.catch_warnings(), contextlib.suppress(InputError):
            warnings.simplefilter(action)
            assert load_rgb(data).mode == "RGB"


def test_good_pictures_are_read_where_warnings_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for data in SEEDS.values():
            assert load_rgb(data).mode == "RGB"


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_damaged_avif_is_refused() -> None:
    data = encoded(noise(64, 48), "AVIF")
    with pytest.raises(InputError):
        load_bytes(data.replace(b"iloc", b"free"))


def test_a_dds_of_an_unknown_pixel_format_is_refused() -> None:
    data = bytearray(encoded(noise(), "DDS"))
    data[80:84] = bytes(4)
    with pytest.raises(InputError):
        load_bytes(bytes(data))


def square(side: int) -> Preprocess:
    return Preprocess((side, side), 16, MEAN, STD)


@pytest.mark.parametrize("value", [0, 255])
def test_preprocess_normalizes_as_clip_does(value: int) -> None:
    pixels = model_input(Image.new("RGB", (50, 20), (value, value, value)), square(32))
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    wanted = (value / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(pixels[:, 3, 7], wanted, atol=1e-6)


def test_preprocess_keeps_channels_and_axes_apart() -> None:
    picture = Image.new("RGB", (64, 64))
    picture.paste((255, 0, 0), (32, 0, 64, 64))
    red, green, blue = model_input(picture, square(16))
    assert red[8, 12] > red[8, 3]
    assert np.ptp(green) == np.ptp(blue) == 0


def test_an_input_need_not_be_square() -> None:
    picture = Image.new("RGB", (60, 40))
    picture.paste((255, 0, 0), (30, 0, 60, 40))
    resized = resize(picture, Preprocess((32, 64), 16, MEAN, STD))
    assert resized.shape == (32, 64, 3)
    wanted = picture.resize((64, 32), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(resized, np.asarray(wanted))
