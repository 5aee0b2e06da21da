"""What was yielded is what is segmented, whatever becomes of it afterwards."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from pnp_ovss.engine import InputError, PnpOvssError, Segmenter, Settings
from pnp_ovss.engine.pipeline.pairs import taken

NAMES = ["cat", "sky", "tree"]
FAST = Settings(passes=1, crf=None)
COUNT = 8

Stream = Callable[[Segmenter, Iterator[Any]], list[Any]]


def streamed(segmenter: Segmenter, pairs: Iterator[Any]) -> list[Any]:
    return list(segmenter.stream(pairs, batch_size=3, settings=FAST))


def at_once(segmenter: Segmenter, pairs: Iterator[Any]) -> list[Any]:
    return segmenter.segment_batch(pairs, settings=FAST)


@pytest.fixture(params=[streamed, at_once])
def stream(request: pytest.FixtureRequest) -> Stream:
    return request.param


@pytest.fixture
def frames(picture: Callable[..., Image.Image]) -> list[np.ndarray]:
    return [np.asarray(picture(seed)) for seed in range(COUNT)]


@pytest.fixture
def expected(segmenter: Segmenter, frames: list[np.ndarray]) -> list[np.ndarray]:
    return [segmenter.segment(frame, NAMES, settings=FAST).class_maps for frame in frames]


def check(results: list[Any], expected: list[np.ndarray]) -> None:
    assert len(results) == len(expected)
    for result, maps in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.class_maps, maps, atol=1e-6 * maps.max())


def test_a_buffer_that_is_filled_again(segmenter, frames, expected, stream) -> None:
    buffer = np.empty_like(frames[0])

    def pairs() -> Iterator[Any]:
        for frame in frames:
            buffer[:] = frame
            yield buffer, NAMES
            buffer[:] = 0

    check(stream(segmenter, pairs()), expected)


def test_a_view_of_memory_that_is_filled_again(segmenter, frames, expected, stream) -> None:
    """As video decoders and shared memory give it."""
    memory = bytearray(frames[0].nbytes)

    def pairs() -> Iterator[Any]:
        for frame in frames:
            memory[:] = frame.tobytes()
            yield np.frombuffer(memory, np.uint8).reshape(frame.shape), NAMES

    check(stream(segmenter, pairs()), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_an_opened_picture_that_is_closed(
    segmenter, frames, expected, stream, tmp_path: Path, kind: str
) -> None:
    def pairs() -> Iterator[Any]:
        for index, frame in enumerate(frames):
            path = tmp_path / f"{index}.{kind.lower()}"
            options = {"lossless": True} if kind == "WEBP" else {}
            Image.fromarray(frame).save(path, kind, **options)
            with Image.open(path) as opened:
                yield opened, NAMES
            path.unlink()

    check(stream(segmenter, pairs()), expected)


def test_one_picture_that_is_painted_over(segmenter, frames, expected, stream) -> None:
    canvas = Image.new("RGB", frames[0].shape[1::-1])

    def pairs() -> Iterator[Any]:
        for frame in frames:
            canvas.paste(Image.fromarray(frame))
            yield canvas, NAMES
            canvas.paste("black", (0, 0, *canvas.size))

    check(stream(segmenter, pairs()), expected)


def test_the_frames_of_an_animation(segmenter, frames, expected, stream) -> None:
    buffer = io.BytesIO()
    first, *rest = map(Image.fromarray, frames)
    first.save(buffer, "TIFF", save_all=True, append_images=rest)
    animation = ImageSequence.Iterator(Image.open(buffer))
    check(stream(segmenter, ((frame, NAMES) for frame in animation)), expected)


def test_a_file_and_bytes_that_change(segmenter, frames, expected, stream) -> None:
    def pairs() -> Iterator[Any]:
        data = bytearray()
        for index, frame in enumerate(frames):
            file = io.BytesIO()
            Image.fromarray(frame).save(file, "PNG")
            if index % 2:
                yield file, NAMES
                file.truncate(0)
            else:
                data[:] = file.getvalue()
                yield data, NAMES
                data[:] = b""

    check(stream(segmenter, pairs()), expected)


def test_a_list_of_names_that_changes(segmenter, frames, stream) -> None:
    names: list[Any] = []

    def pairs() -> Iterator[Any]:
        for index, frame in enumerate(frames):
            names[:] = ["cat", ["sky", f"tree {index}"]]
            yield frame, names
            names[1].append("sea")
            names.clear()

    results = stream(segmenter, pairs())
    assert [result.synonyms for result in results] == [
        {"sky": (f"tree {index}",)} for index in range(COUNT)
    ]


def test_names_that_can_be_read_once(segmenter, frames, stream) -> None:
    results = stream(segmenter, ((frame, (name for name in NAMES)) for frame in frames))
    assert all(result.classes == tuple(NAMES) for result in results)


def test_a_relative_path_is_of_the_folder_where_it_was_handed_over(
    segmenter, frames, expected, stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pairs() -> Iterator[Any]:
        for index, frame in enumerate(frames):
            (tmp_path / str(index)).mkdir()
            monkeypatch.chdir(tmp_path / str(index))
            Image.fromarray(frame).save("a.png")
            yield "a.png", NAMES

    check(stream(segmenter, pairs()), expected)


class Odd:
    """An image that no reader knows, and cannot be shown either."""

    def __repr__(self) -> str:
        raise RuntimeError("not even this")


@pytest.mark.parametrize(
    "pair", ["ab", "a.jpg", None, 5, (), ("a.jpg",), ("a.jpg", ["cat"], 3), {"a.jpg": ["cat"]}]
)
def test_what_is_no_pair_is_the_error_of_its_place(segmenter, frames, pair: Any) -> None:
    pairs = [(frames[0], NAMES), pair, (frames[1], NAMES)]
    first, error, last = segmenter.stream(pairs, settings=FAST, errors="return")
    assert first.classes == last.classes == tuple(NAMES)
    assert isinstance(error, InputError)
    assert "no pair of an image and its classes" in error.cause
    with pytest.raises(InputError, match="no pair"):
        segmenter.segment_batch(pairs, settings=FAST)


@pytest.mark.parametrize("pairs", [None, 5, "a.jpg", b"a.jpg"])
def test_pairs_that_are_none(segmenter, pairs: Any) -> None:
    for call in (segmenter.segment_batch, segmenter.stream):
        with pytest.raises(InputError, match="pairs is"):
            call(pairs)


def test_iterables_are_taken(segmenter, frames, expected) -> None:
    names = [NAMES] * COUNT
    check(segmenter.segment_batch(zip(frames, names, strict=True), settings=FAST), expected)
    check(segmenter.segment_batch(iter(zip(frames, names, strict=True)), settings=FAST), expected)
    assert segmenter.segment_batch([]) == []


def test_an_error_of_any_kind_is_that_of_its_image(segmenter, frames) -> None:
    class Failing:
        def read(self, _: int = -1) -> bytes:
            raise MemoryError

    pairs = [(Failing(), NAMES), (Odd(), NAMES), (frames[0], Odd()), (frames[1], NAMES)]
    *errors, good = segmenter.stream(pairs, settings=FAST, errors="return")
    assert all(isinstance(error, PnpOvssError) for error in errors)
    assert good.classes == tuple(NAMES)


def test_what_the_caller_s_iterator_raises_is_raised(segmenter, frames) -> None:
    def pairs() -> Iterator[Any]:
        yield frames[0], NAMES
        raise KeyError("mine")

    results = segmenter.stream(pairs(), settings=FAST, errors="return")
    assert next(results).classes == tuple(NAMES)
    with pytest.raises(KeyError, match="mine"):
        next(results)


def test_nothing_is_taken_before_it_is_asked_for() -> None:
    def pairs() -> Iterator[Any]:
        raise AssertionError
        yield

    taken(pairs())
