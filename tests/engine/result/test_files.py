from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import OutputError, Segmentation, Settings
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.result import files
from pnp_ovss.engine.result.palette import class_colors
from pnp_ovss.engine.runners.placement import PassedOver, Placement

WIDTH, HEIGHT = 6, 4
PICTURE = Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30))
STEMS = ["cat", "a.b.c", "with space", "chaton-éàü", "🐈" * 20, "-dash", ".hidden"]


def result(classes: int = 2) -> Segmentation:
    labels = np.zeros((HEIGHT, WIDTH), np.uint16)
    labels[1:3, 1:4] = 1
    labels[3, 0] = classes
    return Segmentation(
        labels=labels,
        class_maps=np.zeros((classes, 2, 2), np.float32),
        match=np.array([0.25, 0.5], np.float32),
        scores=np.full(classes, 1 / 3, np.float32),
        classes=tuple(f"class {i}" for i in range(classes)),
        present=(True,) * (classes - 1) + (False,),
    )


def test_the_report_agrees_with_the_labels_and_the_palette() -> None:
    passed_over = PassedOver("cuda:0", None, "CuPy is not installed", "install it", "note")
    builds = {"vision": "vision.pt2", "salience": None}
    placement = Placement("cpu", "aotinductor", "fp32", builds, (passed_over,))
    model = files.describe(open_model("demo").manifest, placement)
    record = files.report(result(), "a.jpg", Settings(crf=None), model)
    assert record["model"]["image_size"] == [256, 256]
    told = ("device", "backend", "precision", "builds", "passed_over")
    assert [record["model"][name] for name in told] == [
        "cpu",
        "aotinductor",
        "fp32",
        builds,
        [
            {
                "device": "cuda:0",
                "backend": None,
                "reason": "CuPy is not installed",
                "cure": "install it",
                "severity": "note",
            }
        ],
    ]
    assert (record["image"], record["width"], record["height"]) == ("a.jpg", WIDTH, HEIGHT)
    assert record["background"] == {"label": 0, "pixels": 17}
    first, second = record["classes"]
    assert (first["name"], first["label"], first["pixels"], first["present"]) == (
        "class 0",
        1,
        6,
        True,
    )
    assert (second["label"], second["pixels"], second["present"]) == (2, 1, False)
    assert first["share"] == pytest.approx(6 / 24)
    assert first["color"] == "#" + bytes(class_colors(2)[1]).hex()
    assert record["match"] == [0.25, 0.5]
    assert record["settings"]["crf"] is None
    assert msgspec.json.decode(msgspec.json.encode(record)) == record


def test_the_report_lists_synonyms_where_a_class_has_some() -> None:
    found = replace(result(), synonyms={"class 1": ("second", "other")})
    first, second = files.report(found, "a.jpg", Settings(), {})["classes"]
    assert "synonyms" not in first
    assert (second["name"], second["synonyms"]) == ("class 1", ["second", "other"])


@pytest.mark.parametrize("stem", STEMS)
def test_three_files_are_written_and_nothing_else(tmp_path: Path, stem: str) -> None:
    folder = tmp_path / "new" / "folder"
    written = files.write(result(), PICTURE, {"image": stem}, folder, stem)
    assert written == files.paths(folder, stem)
    expected = {f"{stem}.png", f"{stem}.overlay.png", f"{stem}.json"}
    assert {path.name for path in folder.iterdir()} == expected

    with Image.open(written["labels"]) as labels:
        assert labels.mode == "P"
        assert (np.asarray(labels) == result().labels).all()
        assert labels.getpalette()[:9] == class_colors(2).ravel().tolist()  # type: ignore[index]
    with Image.open(written["overlay"]) as overlay:
        overlay.load()
        assert overlay.mode == "RGB"
    assert msgspec.json.decode(written["report"].read_bytes()) == {"image": stem}


@pytest.mark.parametrize(("classes", "mode"), [(255, "P"), (256, "I;16"), (500, "I;16")])
def test_labels_survive_any_number_of_classes(tmp_path: Path, classes: int, mode: str) -> None:
    written = files.write(result(classes), PICTURE, {}, tmp_path, "many")
    with Image.open(written["labels"]) as labels:
        assert labels.mode == mode
        assert (np.asarray(labels) == result(classes).labels).all()


def test_results_are_replaced(tmp_path: Path) -> None:
    for number in (1, 2):
        written = files.write(result(), PICTURE, {"run": number}, tmp_path, "a")
    assert msgspec.json.decode(written["report"].read_bytes()) == {"run": 2}
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_have_the_users_permissions(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        written = files.write(result(), PICTURE, {}, tmp_path, "a")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in written.values()} == {0o666 & ~umask}


@pytest.mark.parametrize("obstacle", ["file", "parent"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, obstacle: str) -> None:
    (tmp_path / "taken").write_text("mine")
    folder = tmp_path / "taken" if obstacle == "file" else tmp_path / "taken" / "out"
    with pytest.raises(OutputError, match="taken") as caught:
        files.write(result(), PICTURE, {}, folder, "a")
    assert "--output" in caught.value.cure
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("fails_at", ["labels", "overlay", "report"])
def test_a_disk_that_fills_up_leaves_no_part_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    files.write(result(), PICTURE, {"run": 1}, tmp_path, "a")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def filling(write: Callable[..., object], path_of: Callable[..., Path]):
        def full(*words: Any, **options: Any) -> object:
            path = path_of(*words)
            if fails_at not in path.name:
                return write(*words, **options)
            with path.open("wb") as file:
                file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        return full

    monkeypatch.setattr(Image.Image, "save", filling(Image.Image.save, lambda _, path: path))
    monkeypatch.setattr(Path, "write_bytes", filling(Path.write_bytes, lambda path, _: path))
    with pytest.raises(OutputError, match="No space left") as caught:
        files.write(result(), PICTURE, {"run": 2}, tmp_path, "a")
    assert "free some space" in caught.value.cure
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_interrupt_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(result(), PICTURE, {}, tmp_path, "a")
    assert not list(tmp_path.iterdir())
