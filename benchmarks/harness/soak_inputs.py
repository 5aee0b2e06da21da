"""Makes the images and settings of a soak, and the calls that an engine must refuse."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from pnp_ovss.engine import Segmenter, Settings

KNOWN = ("turtle", "umbrella", "cat", "frog", "penguin", "pizza", "banana", "crown", "sand", "snow")
IMAGES = 24
_SIDES = (8, 130)
_LARGE = (200, 150)
_KINDS = (("RGB", "png"), ("RGB", "jpg"), ("RGBA", "png"), ("L", "bmp"), ("P", "gif"), ("L", "tif"))

FORMS: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "opened": Image.open,
    "decoded": lambda path: Image.open(path).convert("RGB"),
    "array": lambda path: np.asarray(Image.open(path).convert("RGB")),
}
"""Ways to hand over the image of a file."""

Refused = Callable[[Segmenter, Path], Any]
"""A call that ends in an error of the engine; it takes the folder of the images."""


def write_images(folder: Path, rng: np.random.Generator) -> None:
    """Write `IMAGES` small images, cut from the samples, and some files that cannot be read."""
    samples = Path(str(resources.files("pnp_ovss.engine") / "data" / "samples"))
    for index in range(IMAGES):
        mode, ending = _KINDS[index % len(_KINDS)]
        size = _LARGE if index == 0 else tuple(rng.integers(*_SIDES, 2).tolist())
        with Image.open(sorted(samples.glob("*.jpg"))[index % 3]) as sample:
            left, top = rng.integers(0, (sample.width // 2, sample.height // 2)).tolist()
            box = (left, top, left + sample.width // 2, top + sample.height // 2)
            sample.crop(box).resize(size).convert(mode).save(folder / f"{index:02}.{ending}")
    whole = (folder / "00.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no image")
    (folder / "empty.jpg").touch()
    Image.new("F", (20, 10)).save(folder / "floats.tif")


def paths(folder: Path) -> list[Path]:
    """List the images that can be read, in order."""
    return sorted(folder.glob("[0-9][0-9].*"))


def settings(rng: np.random.Generator) -> Settings:
    """Draw settings: a preset, 1 to 4 passes, a way to drop patches, with and without a CRF."""
    return Settings.preset(
        rng.choice(["paper", "released"]),
        passes=rng.choice(4, p=(0.7, 0.16, 0.07, 0.07)) + 1,
        drop_mode=str(rng.choice(["pixels", "tokens", "attention"])),
        crf=(None, "densecrf")[rng.integers(2)],
        threshold=rng.choice([0.05, 0.15]),
        background=str(rng.choice(["auto", "always", "never"])),
    )


def _image(image: Callable[[Path], Any]) -> Refused:
    return lambda segmenter, folder: segmenter.segment(image(folder), ["cat"])


def _names(classes: Any) -> Refused:
    return lambda segmenter, folder: segmenter.segment(folder / "00.png", classes)


def _settings(**changes: Any) -> Refused:
    return lambda segmenter, folder: segmenter.segment(
        folder / "00.png", ["cat"], settings=Settings(**changes)
    )


def _options(**options: Any) -> Refused:
    return lambda segmenter, folder: segmenter.segment(folder / "00.png", ["cat"], **options)


def _stream(pairs: Any, **options: Any) -> Refused:
    return lambda segmenter, _: list(segmenter.stream(pairs, **options))


def _refine(maps: Any) -> Refused:
    return lambda segmenter, folder: segmenter.refine(folder / "00.png", maps)


def _used(use: Callable[[Any, Path], Any]) -> Refused:
    quick = Settings(passes=1, crf=None)
    return lambda segmenter, folder: use(
        segmenter.segment(folder / "00.png", ["cat", "sand"], settings=quick), folder
    )


REFUSED: dict[str, Refused] = {
    "missing file": _image(lambda folder: folder / "missing.png"),
    "folder": _image(lambda folder: folder),
    "cut file": _image(lambda folder: folder / "cut.png"),
    "cut image": _image(lambda folder: Image.open(folder / "cut.png")),
    "text": _image(lambda folder: folder / "text.png"),
    "empty file": _image(lambda folder: folder / "empty.jpg"),
    "floats": _image(lambda folder: folder / "floats.tif"),
    "float image": _image(lambda _: Image.new("F", (20, 10))),
    "no path": _image(lambda _: ""),
    "zero byte": _image(lambda folder: f"{folder}/a\0b.png"),
    "None": _image(lambda _: None),
    "number": _image(lambda _: 7),
    "list": _image(lambda _: [[0, 0, 0]]),
    "float array": _image(lambda _: np.zeros((9, 9, 3), np.float32)),
    "gray array": _image(lambda _: np.zeros((9, 9), np.uint8)),
    "four channels": _image(lambda _: np.zeros((9, 9, 4), np.uint8)),
    "empty array": _image(lambda _: np.zeros((0, 9, 3), np.uint8)),
    "object array": _image(lambda _: np.full((9, 9, 3), None)),
    "unknown name": _names(["dragon"]),
    "unknown name after others": _names(["cat", "sand", "dragon"]),
    "unknown synonym": _names([["cat", "dragon"]]),
    "repeated name": _names(["cat", "sand", " Cat "]),
    "repeated synonym": _names(["sand", ["cat", "sand"]]),
    "no names": _names([]),
    "empty name": _names(["cat", "  "]),
    "empty synonyms": _names(["cat", []]),
    "one text": _names("cat"),
    "bytes": _names([b"cat"]),
    "set": _names({"cat"}),
    "names None": _names(None),
    "names 5": _names(5),
    "number as name": _names(["cat", 5]),
    "number as synonym": _names([["cat", 5]]),
    "control character": _names(["c\at"]),
    "surrogate": _names(["caf\udce9"]),
    "long name": _names(["w" * 10_001]),
    "passes 0": _settings(passes=0),
    "passes 1.5": _settings(passes=1.5),
    "passes True": _settings(passes=True),
    "threshold text": _settings(threshold="0.5"),
    "threshold NaN": _settings(threshold=float("nan")),
    "blur 2": _settings(blur=2),
    "drop mode": _settings(drop_mode="halves"),
    "drop schedule": _settings(drop_schedule=-1),
    "background": _settings(background=None),
    "crf": _settings(crf="yes"),
    "join_words": _settings(join_words=1),
    "preset": lambda *_: Settings.preset("best"),
    "unknown setting": lambda *_: Settings.preset("paper", speed=9),
    "settings text": _options(settings="paper"),
    "settings dict": _options(settings={"passes": 1}),
    "present": _options(present="maybe"),
    "present None": _options(present=None),
    "batch size 0": _stream([], batch_size=0),
    "batch size text": _stream([], batch_size="8"),
    "errors": _stream([], errors="ignore"),
    "pairs None": _stream(None),
    "pairs text": _stream("a.png"),
    "no pair": _stream(["a.png"]),
    "three for a pair": _stream([("a.png", ["cat"], 1)]),
    "number for a pair": lambda segmenter, _: segmenter.segment_batch(cast(Any, [5])),
    "missing file in a batch": lambda segmenter, folder: segmenter.segment_batch(
        [(folder / "00.png", ["cat"]), (folder / "missing.png", ["cat"])],
        settings=Settings(passes=1, crf=None),
    ),
    "prepare": lambda segmenter, folder: segmenter.prepare(folder / "text.png", ["cat"]),
    "check_classes": lambda segmenter, _: segmenter.check_classes(["cat", "dragon"]),
    "flat maps": _refine(np.zeros((4, 4), np.float32)),
    "maps of text": _refine("maps"),
    "NaN in maps": _refine(np.full((1, 4, 4), np.nan, np.float32)),
    "no maps": _refine(None),
    "no class": _used(lambda result, _: result.mask("dragon")),
    "class 5": _used(lambda result, _: result.mask(5)),
    "overlay of another": _used(lambda result, folder: result.overlay(folder / "01.jpg")),
    "id -1": _used(lambda result, _: result.to_coco(image_id=-1)),
    "no model": lambda _, folder: Segmenter.load(folder),
    "no backend": lambda *_: Segmenter.load(backend="abacus"),
    "no device": lambda *_: Segmenter.load(device="tpu"),
    "no threads": lambda *_: Segmenter.load(threads=0),
}
"""Calls that must end in an error, by what is wrong with them."""
