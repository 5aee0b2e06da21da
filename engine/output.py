"""A result on disk: `<stem>.png`, `<stem>.overlay.png`, `<stem>.json`, each whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import msgspec
from PIL import Image

from .artifact import Artifact
from .errors import OutputError
from .palette import colours
from .segmentation import Segmentation
from .settings import Settings


def paths(folder: Path, stem: str) -> dict[str, Path]:
    """The files of one picture: labels, overlay, report."""
    return {
        "labels": folder / f"{stem}.png",
        "overlay": folder / f"{stem}.overlay.png",
        "report": folder / f"{stem}.json",
    }


def report(result: Segmentation, name: str, settings: Settings, model: Artifact) -> dict[str, Any]:
    """What was found in a picture and how, ready for JSON.

    Args:
        result: of the picture.
        name: of the picture.
        settings: those in force.
        model: that made it.
    """
    areas = result.areas().tolist()
    height, width = result.labels.shape
    palette = colours(len(result.classes))
    manifest = model.manifest
    return {
        "image": name,
        "width": width,
        "height": height,
        "background": {"label": 0, "pixels": areas[0]},
        "classes": [
            {
                "name": class_name,
                "label": index + 1,
                "colour": "#" + palette[index + 1].tobytes().hex(),
                "present": result.present[index],
                "score": round(float(result.scores[index]), 6),
                "pixels": areas[index + 1],
                "share": round(areas[index + 1] / (width * height), 6),
            }
            for index, class_name in enumerate(result.classes)
        ],
        "match": [round(float(p), 6) for p in result.match],
        "settings": asdict(settings),
        "model": {
            "checkpoint": manifest.checkpoint.source,
            "revision": manifest.checkpoint.revision,
            "trained": manifest.trained,
            "image_size": manifest.image_size,
            "layer": manifest.layer,
            "head": manifest.head,
        },
    }


def save(
    result: Segmentation, image: Image.Image, record: dict[str, Any], folder: Path, stem: str
) -> dict[str, Path]:
    """Write the three files of one picture; return where they are.

    Args:
        result: of the picture.
        image: the picture, for the overlay.
        record: what `report` returned.
        folder: made if need be.
        stem: of the file names.

    Raises:
        OutputError: a file cannot be written. Nothing half-written is left behind.
    """
    files = paths(folder, stem)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _replacing(files["labels"]) as file:
            result.label_image().save(file, format="PNG", optimize=True)
        with _replacing(files["overlay"]) as file:
            result.overlay(image).save(file, format="PNG")
        with _replacing(files["report"]) as file:
            file.write(msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
    except OSError as error:
        raise OutputError(
            f"cannot write to '{folder}': {error.strerror or error}",
            "free some space, or choose another folder with --output",
        ) from error
    return files


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file beside `path` that takes its place once it is complete."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
