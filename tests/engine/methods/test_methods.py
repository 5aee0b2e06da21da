"""A second method needs its own module and a line in the registry, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import InputError, ModelError, Segmenter, Settings
from pnp_ovss.engine.cli import main
from pnp_ovss.engine.device import CPU, Device
from pnp_ovss.engine.inputs.names import CleanClass
from pnp_ovss.engine.methods import METHODS, open_method
from pnp_ovss.engine.methods.base import Located, Method, Request
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.engine.model.manifest import MANIFEST, Preprocess
from pnp_ovss.engine.runners.placement import Placement

COLORS = {"red": 0, "green": 1, "blue": 2}


class Colors:
    """Finds colors: the class map of one is how much of it each patch has. It runs no graph."""

    device: Device = CPU
    placement = Placement("cpu")

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def encode(self, classes: Sequence[CleanClass], settings: Settings) -> list[int]:
        for name in classes:
            if name not in COLORS:  # and it takes no synonyms
                raise InputError(f"{name!r} is no color", f"there are: {', '.join(COLORS)}")
        return [COLORS[name] for name in classes if isinstance(name, str)]

    def locate(self, requests: Sequence[Request]) -> list[Located]:
        rows, columns = self.preprocess.grid
        patch = self.preprocess.patch
        found = []
        for request in requests:
            tiles = request.pixels.reshape(rows, patch, columns, patch, 3).mean(axis=(1, 3))
            maps = np.moveaxis(tiles[..., request.query], -1, 0).astype(np.float32)
            found.append(
                Located(
                    maps=maps,
                    class_of=np.arange(len(maps)),
                    present=np.ones(len(maps), bool),
                    scores=maps.max(axis=(1, 2)) / 255,
                    match=np.zeros(0, np.float32),
                )
            )
        return found

    def close(self) -> None:
        pass


def open_colors(model: ModelFolder, **_: Any) -> Method:
    return Colors(model.manifest.preprocess)


@pytest.fixture
def folder(model_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder of the method, on a grid that is not square."""
    monkeypatch.setitem(METHODS, "colors", open_colors)
    manifest = json.loads((model_copy / MANIFEST).read_text())
    manifest["method"] = "colors"
    manifest["preprocess"] |= {"sides": [64, 96]}
    (model_copy / MANIFEST).write_text(json.dumps(manifest))
    return model_copy


@pytest.fixture
def image() -> Image.Image:
    """Red to the left, blue to the right, green below."""
    image = Image.new("RGB", (120, 80), "red")
    image.paste((0, 0, 255), (60, 0, 120, 80))
    image.paste((0, 255, 0), (0, 60, 120, 80))
    return image


def test_a_method_is_chosen_by_the_manifest(folder: Path, image: Image.Image):
    settings = Settings(blur=0.0, background="never", crf=None)
    with Segmenter.load(folder) as segmenter:
        assert isinstance(segmenter.method, Colors)
        result = segmenter.segment(image, ["green", "blue", "red"], settings=settings)
        assert result.class_maps.shape == (3, 4, 6)
        assert [result.labels[y, x] for y, x in ((75, 60), (10, 110), (10, 10))] == [1, 2, 3]
        assert result.match.shape == (0,)
        np.testing.assert_allclose(result.scores, 1, atol=0.01)
        for crf in ("densecrf", None):
            sharp = replace(settings, crf=crf)
            again = segmenter.refine(image, result, sharp)
            wanted = segmenter.segment(image, ["green", "blue", "red"], settings=sharp).labels
            np.testing.assert_array_equal(again, wanted)
        results = list(segmenter.stream([(image, ["red"]), (image, ["pink"])], errors="return"))
        assert results[0].labels.any()  # type: ignore[union-attr]
        assert isinstance(results[1], InputError)


def test_the_command_line_runs_it(folder: Path, image: Image.Image, tmp_path: Path, capsys: Any):
    image.save(tmp_path / "flag.png")
    words = ["segment", str(tmp_path / "flag.png"), "-c", "red,blue", "-m", str(folder)]
    assert main([*words, "-o", str(tmp_path / "out"), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == "pnp-ovss: note: running on cpu\n"
    (report,) = json.loads(printed.out)
    assert [one["name"] for one in report["classes"]] == ["red", "blue"]
    assert report["model"]["image_size"] == [64, 96]
    assert main([*words[:3], "pink", *words[4:], "-o", str(tmp_path / "out")]) == 2
    assert "'pink' is no color" in capsys.readouterr().err


def test_a_method_that_is_not_known_is_refused(model_copy: Path):
    manifest = json.loads((model_copy / MANIFEST).read_text()) | {"method": "telepathy"}
    (model_copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="is for the method 'telepathy'; known are: pnp-ovss"):
        open_method(open_model(model_copy))
