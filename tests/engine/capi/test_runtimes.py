"""The oldest and the newest ONNX Runtime that the library takes give the labels of the engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.contenders.c_library import CSettings, Library, Model
from pnp_ovss.engine import Segmenter
from tests import thresholds
from tests.conftest import SAMPLES
from tests.engine.capi import built
from tests.once import made_once

pytestmark = pytest.mark.slow  # it loads a wheel from PyPI

OLDEST = "1.20.1"  # the first wheel with a library that has a C interface
PYTHON = "311"  # that wheel was built for; its library does without


def wheel(factory: pytest.TempPathFactory) -> Path:
    """Return the library of the oldest wheel."""

    def make(folder: Path) -> None:
        words = [sys.executable, "-m", "pip", "download", f"onnxruntime=={OLDEST}", "--no-deps"]
        words += ["--python-version", PYTHON, "--only-binary", ":all:", "--dest", str(folder)]
        done = subprocess.run([*words, "--quiet"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"onnxruntime {OLDEST} cannot be had: {done.stderr[-200:]}")
        for path in folder.glob("*.whl"):
            zipfile.ZipFile(path).extractall(folder / "wheel")

    folder = made_once(factory, "capi-oldest", make)
    return next((folder / "wheel" / "onnxruntime" / "capi").glob("libonnxruntime.so.*"))


@pytest.mark.parametrize("crf", [None, "densecrf"])
@pytest.mark.parametrize("mode", ["pixels", "tokens", "attention"])
def test_labels_are_those_of_the_engine(
    mode: Any, crf: Any, tmp_path_factory: pytest.TempPathFactory
):
    """Both runtimes are in this process at once, next to that of the engine."""
    built_library = built.library(tmp_path_factory)
    versions = {wheel(tmp_path_factory): OLDEST, built.ort_library(): r"\d+\.\d+\.\d+"}
    samples = json.loads((SAMPLES / "samples.json").read_text())
    with Segmenter.load("demo", backend="onnxruntime", device="cpu", threads=1) as segmenter:
        settings = replace(segmenter.settings, drop_mode=mode, crf=crf)
        for path, version in versions.items():
            library = Library(built_library, path)
            told = library.c.pnp_ovss_runtime_version(library.runtime).decode()
            assert re.fullmatch(version, told)
            with Model(library, built.DEMO, threads=1) as model:
                for sample in samples:
                    image = np.array(Image.open(SAMPLES / sample["file"]))
                    classes = sample["classes"]
                    wanted = segmenter.segment(image, classes, settings=settings)
                    found = model.segment(image, classes, CSettings.of(settings))
                    np.testing.assert_array_equal(found.labels, wanted.labels)
                    largest = np.max(wanted.class_maps)
                    np.testing.assert_allclose(
                        found.class_maps,
                        wanted.class_maps,
                        rtol=0,
                        atol=thresholds.C_OLD_RUNTIME_MAPS * largest,
                    )
