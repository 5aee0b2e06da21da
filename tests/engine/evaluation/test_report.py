from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import InputError, Settings
from pnp_ovss.engine import evaluation as public
from pnp_ovss.engine.evaluation import DATASETS, Dataset, Evaluation, Sample, report, table, write

STICKERS = DATASETS["stickers"]


def test_the_example_of_the_docstring():
    results = doctest.testmod(public)
    assert results.attempted >= 5
    assert not results.failed


def test_the_public_surface_needs_neither_matplotlib_nor_onnx():
    """Nor does it import them where they are installed."""
    code = """
import sys
from pnp_ovss.engine.evaluation import *
from pnp_ovss.engine import evaluation
assert not [name for name in evaluation.__all__ if name not in globals()]
assert not {"matplotlib", "onnx", "torch"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def half_ignored(index: int) -> Sample:
    """The first image is all ignored, as a data set may have one."""
    sample = STICKERS.sample(index)
    truth = sample.truth.copy()
    truth[: None if index == 0 else 128] = 999
    return Sample(sample.image, truth, sample.classes)


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Each image with the labels of half of it wrong; the order is not that of the indices."""
    dataset = Dataset("half", STICKERS.vocabulary, "always", 4, half_ignored, ignore=999)
    result = Evaluation(dataset, Settings(), model={"checkpoint": "none"})
    for index in (2, 0, 3, 1):
        labels = STICKERS.sample(index).truth.copy()
        labels[:, 100:] = 1
        result.add(index, dataset.sample(index).truth, labels, keep_labels=True)
    return result


def test_a_report_is_json_even_where_there_is_no_number(evaluation: Evaluation):
    told = report(evaluation)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["images"] == 4
    assert told["per_image"][0] is None
    assert told["per_image"][1:] == [round(evaluation.scores[i], 6) for i in (1, 2, 3)]
    empty = report(Evaluation(evaluation.dataset, Settings()))
    assert (empty["miou"], empty["pixel_accuracy"], empty["boundary_f"]) == (None, None, None)
    assert [line.split()[-1] for line in [*table(empty)][-3:]] == ["-", "-", "-"]


def test_a_class_without_a_boundary_has_a_row():
    """A class can be seen and its boundary not, where ignored pixels hide that."""
    dataset = Dataset("one", ("cat",), "auto", 1, half_ignored, ignore=9)
    result = Evaluation(dataset, Settings())
    truth = np.full((20, 20), 9)
    truth[5:10, 5:10] = 1
    result.add(0, truth, np.where(truth == 1, 1, 0))
    (row,) = [line for line in table(report(result)) if line.startswith("cat")]
    assert row.split() == ["cat", "1.000", "-"]


def test_a_folder_has_the_report_and_the_figures(evaluation: Evaluation, tmp_path: Path):
    write(str(tmp_path / "out"), evaluation, report(evaluation))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.json",
        "confusion.png",
        "contact-sheet.png",
    }
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report(evaluation)
    assert min(Image.open(tmp_path / "out" / "contact-sheet.png").size) > 400


def test_without_label_maps_there_is_no_contact_sheet(evaluation: Evaluation, tmp_path: Path):
    bare = Evaluation(evaluation.dataset, Settings())
    sample = evaluation.dataset.sample(1)
    bare.add(1, sample.truth, STICKERS.sample(1).truth)
    write(tmp_path, bare, report(bare))
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "confusion.png"}


def test_a_report_of_something_else_is_left_alone(evaluation: Evaluation, tmp_path: Path):
    (tmp_path / "report.json").write_text("[]")
    with pytest.raises(InputError, match="is no report of an evaluation"):
        write(tmp_path, evaluation, report(evaluation))
    assert (tmp_path / "report.json").read_text() == "[]"
