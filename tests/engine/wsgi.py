"""A service that embeds the engine in the plainest way: what gunicorn serves in the tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from importlib import resources
from typing import Any

from pnp_ovss.engine import Segmenter, Settings

SAMPLES = resources.files("pnp_ovss.engine") / "data" / "samples"  # no import of the tests' own
SETTINGS = Settings(passes=2, drop_mode="attention")
segmenter = Segmenter.load(backend=os.environ["BACKEND"], threads=1)
if os.environ.get("WARM"):  # an application may try its model before it forks
    segmenter.segment(str(SAMPLES / "party.jpg"), ["teddy bear"], settings=SETTINGS)


def application(environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
    """Segment the sample that the path names; tell the pixels of each class and the process."""
    path = str(SAMPLES / environ["PATH_INFO"].lstrip("/"))
    result = segmenter.segment(path, ["turtle", "umbrella"], settings=SETTINGS)
    start("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"areas": result.areas().tolist(), "process": os.getpid()}).encode()]
