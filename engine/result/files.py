"""Write results as `<stem>.png`, `<stem>.overlay.png` and `<stem>.json`, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import printable, writing_to
from ..json_text import decode_json, indented_json
from ..model.manifest import Manifest
from ..runners.placement import Placement
from ..settings import Settings
from .palette import class_colors
from .segmentation import Segmentation

_OVERLAY_LEVEL = 3  # of PNG's compression: by default it takes three times as long for 1/8 less


def paths(folder: Path, stem: str) -> dict[str, Path]:
    """Name the files of one image, the longest name first."""
    return {
        "overlay": folder / f"{stem}.overlay.png",
        "labels": folder / f"{stem}.png",
        "report": folder / f"{stem}.json",
    }


def report(
    result: Segmentation, name: str, settings: Settings, model: dict[str, Any]
) -> dict[str, Any]:
    """Report what was found in an image and how, ready for JSON.

    Args:
        result: result of the image.
        name: name of the image.
        settings: settings that were in force.
        model: what made the result, as `describe` returns it.
    """
    areas = result.areas().tolist()
    height, width = result.labels.shape
    palette = class_colors(len(result.classes))
    return {
        "image": printable(name),
        "width": width,
        "height": height,
        "background": {"label": 0, "pixels": areas[0]},
        "classes": [
            {
                "name": class_name,
                **_synonyms(result, class_name),
                "label": index + 1,
                "color": "#" + palette[index + 1].tobytes().hex(),
                "present": result.present[index],
                "score": round(float(result.scores[index]), 6),
                "pixels": areas[index + 1],
                "share": round(areas[index + 1] / (width * height), 6),
            }
            for index, class_name in enumerate(result.classes)
        ],
        "match": [round(float(p), 6) for p in result.match],
        "settings": asdict(settings),
        "model": model,
    }


def _synonyms(result: Segmentation, name: str) -> dict[str, Any]:
    return {"synonyms": list(result.synonyms[name])} if name in result.synonyms else {}


def describe(manifest: Manifest, placement: Placement) -> dict[str, Any]:
    """Tell which model made a result, what ran it and what was passed over, ready for JSON."""
    return {
        "checkpoint": manifest.checkpoint.source,
        "revision": manifest.checkpoint.revision,
        "trained": manifest.trained,
        "weights": manifest.weights,
        "image_size": list(manifest.preprocess.sides),
        "layer": manifest.layer,
        "head": manifest.head,
        "device": placement.device,
        "backend": placement.backend,
        "precision": placement.precision,
        "builds": dict(placement.builds),
        "passed_over": [asdict(one) for one in placement.passed_over],
    }


def write(
    result: Segmentation, image: Image.Image, record: dict[str, Any], folder: Path, stem: str
) -> dict[str, Path]:
    """Write the three files of one image; return where they are.

    Args:
        result: result of the image.
        image: the image, for the overlay.
        record: what `report` returned.
        folder: folder for the files; it is made if need be.
        stem: stem of the file names.

    Raises:
        OutputError: a file cannot be written. Nothing half-written is left behind.
    """
    files = paths(folder, stem)
    with writing_to(folder, "choose another folder with --output"):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(files) as parts:
            result.label_image().save(parts["labels"], format="PNG", optimize=True)
            overlay = result.overlay(image)
            overlay.save(parts["overlay"], format="PNG", compress_level=_OVERLAY_LEVEL)
            parts["report"].write_bytes(indented_json(record))
    return files


def is_report(path: Path) -> bool:
    """Tell whether a file is a report that `write` wrote."""
    if not os.path.isfile(path):  # a pipe would be waited for
        return False
    try:
        record = decode_json(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"image", "classes", "match", "model"} <= record.keys()


def check_folder(folder: Path) -> None:
    """Make a folder, and check that files can be written there.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    with writing_to(folder, "choose another folder with --output"):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")


@contextlib.contextmanager
def replacing(files: dict[str, Path]) -> Generator[dict[str, Path], None, None]:
    """Yield temporary paths, which replace the files together once all are complete."""
    folder = next(iter(files.values())).parent
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as work:
        parts = {kind: Path(work) / kind for kind in files}
        yield parts
        for path in files.values():
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"'{path.name}' is a folder")
        for kind, path in files.items():
            parts[kind].replace(path)
