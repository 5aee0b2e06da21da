from __future__ import annotations

import contextlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import InputError
from pnp_ovss.engine.inputs.images import load_rgb, take


def encoded(kind: str) -> io.BytesIO:
    values = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_threads_may_give_one_opened_picture(kind: str) -> None:
    buffer, threads = encoded(kind), 4
    expected = load_rgb(buffer)
    together = threading.Barrier(threads)

    def load(opened: Image.Image) -> Image.Image:
        together.wait()
        return load_rgb(opened)

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(20):
            opened = Image.open(buffer)
            assert all(one == expected for one in pool.map(load, [opened] * threads))


class Waiting(io.BytesIO):
    """A file whose reader waits until it is let go."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.reached, self.go = threading.Event(), threading.Event()
        self.go.set()

    def read(self, *size: Any) -> bytes:
        self.reached.set()
        self.go.wait()
        return super().read(*size)


def hold(file: Waiting) -> tuple[Image.Image, threading.Thread]:
    """Leave a thread in the middle of decoding a picture."""
    opened = Image.open(file)
    file.reached.clear()
    file.go.clear()
    thread = threading.Thread(target=load_rgb, args=[opened])
    thread.start()
    assert file.reached.wait(10)
    return opened, thread


def test_other_pictures_do_not_wait() -> None:
    file = Waiting(encoded("PNG").getvalue())
    _, thread = hold(file)
    other = threading.Thread(target=load_rgb, args=[Image.open(encoded("PNG"))], daemon=True)
    other.start()
    other.join(10)
    done = not other.is_alive()
    assert thread.is_alive()
    file.go.set()
    thread.join()
    assert done


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    file = Waiting(encoded("PNG").getvalue())
    opened, thread = hold(file)
    child = os.fork()
    if not child:
        threading.Timer(5, os._exit, [1]).start()
        file.go = threading.Event()
        file.go.set()
        with contextlib.suppress(InputError):  # the parent's thread was in the middle of it
            load_rgb(opened)
        os._exit(0)
    file.go.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


def closed_file() -> Image.Image:
    buffer = encoded("PNG")
    opened = Image.open(buffer)
    buffer.close()
    return opened


def closed_picture() -> Image.Image:
    opened = Image.open(encoded("PNG"))
    opened.close()
    return opened


def left_with() -> Image.Image:
    with Image.open(encoded("PNG")) as opened:
        pass
    return opened


def closed_memory() -> Image.Image:
    picture = Image.new("RGB", (3, 2))
    picture.close()
    return picture


@pytest.mark.parametrize("make", [closed_file, closed_picture, left_with, closed_memory])
@pytest.mark.parametrize("read", [load_rgb, take])
def test_a_closed_picture_is_told_from_a_damaged_one(make: Any, read: Any) -> None:
    with pytest.raises(InputError, match="was closed before it was read"):
        read(make())


def test_a_damaged_opened_picture_is_refused() -> None:
    opened = Image.open(io.BytesIO(encoded("PNG").getvalue()[:3000]))
    with pytest.raises(InputError, match="it is damaged"):
        take(opened)
