from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import InputError
from pnp_ovss.engine.inputs import sources
from pnp_ovss.engine.inputs.images import load_rgb, take


def noise() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    return Image.fromarray(values)


def png(picture: Image.Image | None = None) -> bytes:
    buffer = io.BytesIO()
    (picture or noise()).save(buffer, "PNG")
    return buffer.getvalue()


def at_its_end() -> io.BytesIO:
    buffer = io.BytesIO()
    noise().save(buffer, "PNG")
    return buffer


class Slow:
    """A file object that can do nothing but read, five bytes at a time."""

    def __init__(self) -> None:
        self.file = io.BytesIO(png())

    def read(self, size: int, /) -> bytes:
        return self.file.read(min(size, 5))


ENCODED: dict[str, Callable[[], Any]] = {
    "bytes": png,
    "bytearray": lambda: bytearray(png()),
    "memoryview": lambda: memoryview(png()),
    "every other byte": lambda: memoryview(b"".join(bytes([one]) * 2 for one in png()))[::2],
    "file": at_its_end,
    "file that only reads": Slow,
}


@pytest.mark.parametrize("make", ENCODED.values(), ids=ENCODED)
def test_encoded_images_are_read_now_or_later(make: Callable[[], Any]) -> None:
    assert load_rgb(make()) == load_rgb(noise())
    taken = take(make())
    assert type(taken) is bytes
    assert load_rgb(taken) == load_rgb(noise())


class Asynchronous:
    async def read(self, size: int, /) -> bytes:
        return b""


class Broken:
    def read(self, size: int, /) -> bytes:
        raise RuntimeError("of its own kind")


def closed() -> io.BytesIO:
    file = io.BytesIO(png())
    file.close()
    return file


def released() -> memoryview:
    view = memoryview(png())
    view.release()
    return view


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda: io.StringIO("text"), "gives str"),
        (Asynchronous, "gives coroutine"),
        (Broken, "of its own kind"),
        (closed, "closed file"),
        (released, "released"),
        (lambda: [1, 2], "image is list"),
        (lambda: None, "image is NoneType"),
        (lambda: "", "is empty"),
        (lambda: "https://example.org/a.png", "is a URL"),
        (lambda: "HTTP://example.org/a.png", "is a URL"),
    ],
)
@pytest.mark.parametrize("read", [load_rgb, take])
def test_what_is_no_image_is_refused(
    make: Callable[[], Any], cause: str, read: Callable[[Any], object]
) -> None:
    with pytest.raises(InputError) as caught:
        read(make())
    assert cause in caught.value.cause
    assert caught.value.cure


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_bytes_that_are_no_image_are_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="no image of a known format"):
        load_rgb(content)


class Endless:
    read_so_far = 0

    def read(self, size: int, /) -> bytes:
        self.read_so_far += size
        return bytes(size)


def test_what_never_ends_is_read_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 3_000_000)
    endless, large = Endless(), tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(3_000_001)
    for image in (endless, large, bytes(3_000_001), bytearray(3_000_001), "/dev/zero"):
        if Path(str(image)[:99]).exists() or not isinstance(image, str):
            with pytest.raises(InputError, match="larger than 3 MB"):
                load_rgb(image)
    assert endless.read_so_far == 3_000_001


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[png()])
    writer.start()
    assert load_rgb(tmp_path / "pipe") == load_rgb(noise())
    writer.join()


def test_paths_may_be_of_any_kind(tmp_path: Path) -> None:
    class OfBytes:
        def __fspath__(self) -> bytes:
            return os.fsencode(tmp_path / "a.png")

    noise().save(tmp_path / "a.png")
    for path in (str(tmp_path / "a.png"), tmp_path / "a.png", OfBytes()):
        assert load_rgb(path) == load_rgb(noise())  # type: ignore[arg-type]


def test_a_path_taken_does_not_follow_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    noise().save(tmp_path / "gone" / "a.png")
    monkeypatch.chdir(tmp_path / "gone")
    taken = take("a.png")
    monkeypatch.chdir(tmp_path)
    assert load_rgb(taken) == load_rgb(noise())
    assert take("http://example.org/a.png", fetch_urls=True) == "http://example.org/a.png"


@pytest.mark.skipif(os.name != "posix", reason="a working folder cannot be removed")
def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    noise().save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="working folder was deleted"):
        take("a.png")
    assert load_rgb(take(tmp_path / "a.png")) == load_rgb(noise())


def test_nothing_taken_is_shared_with_the_caller() -> None:
    array = np.array(noise())
    picture, buffer = noise(), bytearray(png())
    taken = [take(array), take(picture), take(buffer), take(memoryview(buffer))]
    array[:] = 0
    picture.paste((0, 0, 0), (0, 0, 13, 9))
    buffer[:] = bytes(len(buffer))
    assert all(load_rgb(one) == load_rgb(noise()) for one in taken)


def test_an_opened_animation_is_taken_at_its_frame(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (9, 7), "red"), Image.new("RGB", (9, 7), "blue")
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    with Image.open(tmp_path / "a.gif") as opened:
        opened.seek(1)
        taken = take(opened)
        opened.seek(0)
    assert load_rgb(taken).getpixel((1, 1)) == (0, 0, 255)


def test_a_pipe_that_nobody_writes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PATIENCE", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="gave nothing for"):
        load_rgb(tmp_path / "pipe")
