"""Run cases of bad input by their numbers, each of which is the same at any time.

    python -m tests.fuzz.cases images 12 13     # case 12 again, with what it gives

A case ends well where it gives a result, or an error that tells the user what to mend. All else is
a fault: any other exception, an error that calls itself a defect of this package, and the end of
the process, which `tests.fuzz.runs` sees from outside.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from pnp_ovss.engine import PnpOvssError, Segmenter, Settings
from pnp_ovss.engine.model.folder import read_manifest
from pnp_ovss.engine.model.manifest import MANIFEST
from tests.fuzz import folders, images, manifests, names, settings

LONGEST = 20  # seconds of a case
_MEMORY = 12 * 2**30  # of the address space: what asks for more must not take the machine's
_BACKENDS = ("onnxruntime", "openvino", "auto")
_PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def _prepare_image(random: Random, folder: Path) -> None:
    _prepared(images.make(random, folder), ["cat"])


def _prepare_names(random: Random, _: Path) -> None:
    _prepared(_PICTURE, names.make(random))


def _prepared(image: object, classes: object) -> None:
    request = _segmenter().prepare(image, classes)  # type: ignore[arg-type]
    assert request.image.mode == "RGB"
    assert request.pixels.shape == (64, 64, 3)
    assert request.pixels.dtype == np.uint8
    assert request.classes
    assert all(type(name) is str for name in request.classes)


def _read_manifest(random: Random, folder: Path) -> None:
    (folder / MANIFEST).write_bytes(manifests.make(random))
    read_manifest(folder)


def _load_folder(random: Random, folder: Path) -> None:
    backend, drop_mode = random.choice(_BACKENDS), random.choice(("pixels", "tokens", "attention"))
    model = folders.make(random, folder)
    how = {"backend": backend, "verify": random.random() < 0.7}
    with Segmenter.load(model, **how, device="cpu", threads=1) as segmenter:
        chosen = random.choice((None, Settings(drop_mode=drop_mode)))
        result = segmenter.segment(_PICTURE, ["cat", "a dog"], settings=chosen)
        assert result.labels.shape == _PICTURE.size[::-1]


def _segment_settings(random: Random, _: Path) -> None:
    made = settings.make(random)
    result = _segmenter().segment(_PICTURE, ["cat", "a dog"], settings=made)
    assert result.labels.shape == _PICTURE.size[::-1]
    assert result.match.shape == (made.passes,)


KINDS: dict[str, Callable[[Random, Path], None]] = {
    "images": _prepare_image,
    "names": _prepare_names,
    "manifests": _read_manifest,
    "folders": _load_folder,
    "settings": _segment_settings,
}


@cache
def _segmenter() -> Segmenter:
    return Segmenter.load(manifests.VERSION_1, backend="onnxruntime", device="cpu", threads=1)


def run(kind: str, index: int) -> str:
    """Run a case: "" where it gave a result, else the error that it ended with.

    Raises:
        Exception: it did not end well.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{kind}-"))
    try:
        KINDS[kind](Random(f"{kind} {index}"), folder)
    except PnpOvssError as error:
        _require_good(error)
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ""


def _require_good(error: PnpOvssError) -> None:
    for line in (error.cause, error.cure):
        if not line.strip() or len(line.splitlines()) != 1 or "this is a defect" in line:
            raise AssertionError(
                f"an error that helps nobody: {error.cause!r}, {error.cure!r}"
            ) from error


def main(kind: str, first: int, end: int, log: Path | None) -> None:
    """Run cases one by one, and write before and after each of them a line of JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = log.open("a", encoding="utf-8") if log else sys.stdout
    for index in range(first, end):
        print(json.dumps({"case": index}), file=out, flush=True)
        faulthandler.dump_traceback_later(LONGEST, exit=True)
        started = time.monotonic()
        fault, said = "", ""
        try:
            said = run(kind, index)
        except BaseException:  # a panic of Rust is no Exception
            fault = traceback.format_exc()
        faulthandler.cancel_dump_traceback_later()
        seconds = round(time.monotonic() - started, 2)
        record = {"case": index, "said": said, "fault": fault, "seconds": seconds}
        print(json.dumps(record), file=out, flush=True)


if __name__ == "__main__":
    faulthandler.enable()
    _kind, _first, _end, *_log = sys.argv[1:]
    main(_kind, int(_first), int(_end), Path(_log[0]) if _log else None)
