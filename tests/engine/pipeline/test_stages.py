"""The stages by themselves: each takes and gives plain records, and refinement needs no model."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import ExecutionError, InputError, PnpOvssError, Segmenter, Settings
from pnp_ovss.engine.inputs import images
from pnp_ovss.engine.methods.base import Located, Request
from pnp_ovss.engine.pipeline import stages
from pnp_ovss.engine.refine import refine
from pnp_ovss.engine.result.files import describe
from pnp_ovss.engine.settings import CHOICES
from tests.conftest import Exported

NAMES = ["cat", "potted plant", "sky"]


def settings_of(segmenter: Segmenter, image: Image.Image, **changes: Any) -> Settings:
    """Settings of a threshold that some of the names pass, and some do not."""
    scores = segmenter.segment(image, NAMES, settings=Settings(passes=1, crf=None)).scores
    return Settings(passes=2, match_threshold=float(np.sort(scores)[:2].mean()), **changes)


@pytest.mark.parametrize("present", ["given", "match"])
@pytest.mark.parametrize("crf", CHOICES["crf"])
def test_refining_a_result_again_gives_its_labels(
    segmenter: Segmenter, picture: Any, crf: Any, present: Any
):
    if crf == "pydensecrf":
        pytest.importorskip("pydensecrf")
    image = picture(1)
    settings = settings_of(segmenter, image, crf=crf, background="auto")
    result = segmenter.segment(image, NAMES, settings=settings, present=present)
    assert sum(result.present) == (3 if present == "given" else 2)
    np.testing.assert_array_equal(segmenter.refine(image, result, settings), result.labels)

    (located,) = segmenter.locate(
        [segmenter.prepare(image, NAMES, settings=settings, present=present)]
    )
    copies = [pickle.loads(pickle.dumps(one)) for one in (located, located.to_host())]
    for one in (located, located.to_host(), *copies):
        np.testing.assert_array_equal(segmenter.refine(image, one, settings), result.labels)
    np.testing.assert_array_equal(located.present, result.present)
    np.testing.assert_array_equal(located.scores, result.scores)
    np.testing.assert_array_equal(located.match, result.match)


def test_refining_with_other_settings_is_segmenting_with_them(segmenter: Segmenter, picture: Any):
    image = picture(2)
    first = segmenter.segment(image, NAMES, settings=Settings())
    for changes in ({"threshold": 0.5}, {"blur": 0.01}, {"background": "never"}, {"crf": None}):
        settings = Settings(**changes)  # type: ignore[arg-type]
        wanted = segmenter.segment(image, NAMES, settings=settings).labels
        np.testing.assert_array_equal(segmenter.refine(image, first, settings), wanted)
        np.testing.assert_array_equal(segmenter.refine(image, first.class_maps, settings), wanted)


def test_stages_run_in_processes_apart(exported: Exported, tmp_path: Path, picture: Any):
    """Class maps from one process are refined by another, which loads no model and no backend."""
    image, settings = picture(3), Settings(passes=2)
    with Segmenter.load(exported.folder, device="cpu") as segmenter:
        request = segmenter.prepare(image, NAMES, settings=settings)
        (located,) = segmenter.locate([request])
        wanted = segmenter.segment(image, NAMES, settings=settings)
    (tmp_path / "job").write_bytes(pickle.dumps((request, located.to_host())))
    code = f"""
import pickle, sys
for name in ("onnxruntime", "openvino", "torch"):
    sys.modules[name] = None  # an import of it fails
from pathlib import Path
from pnp_ovss.engine.pipeline.stages import finish
request, located = pickle.loads(Path({str(tmp_path / "job")!r}).read_bytes())
Path({str(tmp_path / "result")!r}).write_bytes(pickle.dumps(finish(request, located)))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    found = pickle.loads((tmp_path / "result").read_bytes())
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_array_equal(found.class_maps, wanted.class_maps)


def test_a_batch_may_have_settings_of_its_own_for_each_image(segmenter: Segmenter, picture: Any):
    """Those that ask for the same passes share them, whatever is asked of refinement."""
    asked = [
        Settings(passes=1),
        Settings(passes=3, crf=None),
        Settings(passes=1, threshold=0.4),
        Settings(passes=3, drop_mode="attention"),
    ]
    pictures = [picture(seed, 40 + seed, 30) for seed in range(len(asked))]
    requests = [
        segmenter.prepare(image, NAMES[: 1 + index % 3], settings=settings)
        for index, (image, settings) in enumerate(zip(pictures, asked, strict=True))
    ]
    for image, request, located in zip(pictures, requests, segmenter.locate(requests), strict=True):
        alone = segmenter.segment(image, request.classes, settings=request.settings)
        together = stages.finish(request, located)
        assert len(together.match) == request.settings.passes
        np.testing.assert_allclose(together.match, alone.match, rtol=0, atol=1e-5)
        np.testing.assert_allclose(
            together.class_maps, alone.class_maps, rtol=0, atol=1e-5 * alone.class_maps.max()
        )


def test_an_error_among_the_requests_stays_where_it_is(segmenter: Segmenter, picture: Any):
    request = segmenter.prepare(picture(0), NAMES, settings=Settings(passes=1))
    error = InputError("no image")
    found = stages.locate(segmenter.method, [error, request, error, request])
    assert [isinstance(one, Located) for one in found] == [False, True, False, True]
    assert found[0] is found[2] is error
    assert stages.locate(segmenter.method, [error]) == [error]
    assert stages.locate(segmenter.method, []) == []


def test_an_image_is_decoded_once_and_files_are_written_beside_the_model(
    segmenter: Segmenter, picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    paths = []
    for seed in range(4):
        paths.append(tmp_path / f"{seed}.png")
        picture(seed).save(paths[-1])
    decoded: list[Path] = []
    read = images._read

    def counted(path: Path) -> Image.Image:
        decoded.append(path)
        return read(path)

    monkeypatch.setattr(images, "_read", counted)
    threads: set[str] = set()

    def then(path: Path, request: Request, result: Any) -> tuple[str, tuple[int, int]]:
        threads.add(threading.current_thread().name)
        assert request.image.size == result.labels.shape[::-1]
        return path.name, request.image.size

    results = stages.stream(
        segmenter.method,
        paths,
        Settings(passes=1),
        pair=lambda path: (path, NAMES),
        then=then,
        batch_size=2,
    )
    assert list(results) == [(path.name, (80, 60)) for path in paths]
    assert sorted(decoded) == paths
    assert all(name.startswith("pnp-ovss-worker") for name in threads)


def test_an_error_while_files_are_written_is_that_of_its_image(segmenter: Segmenter, picture: Any):
    def then(number: int, _: Request, __: Any) -> int:
        if number == 1:
            raise InputError("no place for 1")
        return number

    results = list(
        stages.stream(
            segmenter.method,
            range(3),
            Settings(passes=1),
            pair=lambda number: (picture(number), NAMES),
            then=then,
        )
    )
    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1], PnpOvssError)
    assert "no place for 1" in str(results[1])


def test_maps_that_are_not_finite_fail_alone(segmenter: Segmenter, picture: Any):
    request = segmenter.prepare(picture(0), NAMES, settings=Settings(passes=1))
    (located,) = segmenter.locate([request])
    for name in ("maps", "scores", "match"):
        spoiled = np.array(getattr(located, name))
        spoiled.flat[0] = np.nan
        broken = replace(located, **{name: spoiled})
        with pytest.raises(ExecutionError, match="is not finite"):
            broken.to_host()
        with pytest.raises(ExecutionError, match="is not finite"):
            stages.finish(request, broken)


def maps(count: int, rows: int = 4, columns: int = 6) -> np.ndarray:
    return np.random.default_rng(count).random((count, rows, columns), np.float32)


def test_several_maps_may_be_of_one_class():
    """A pixel gets the class of the map that is largest there."""
    image, settings = Image.new("RGB", (60, 40)), Settings(crf=None, background="never", blur=0.0)
    own = maps(4)
    one_each = refine(image, own, settings)
    found = refine(image, own, settings, class_of=np.array([0, 0, 2, 5]))
    np.testing.assert_array_equal(found, np.array([0, 1, 1, 3, 6], np.uint16)[one_each])
    present = np.array([True, True, False, True, True, True])
    without = refine(image, own, settings, class_of=np.array([0, 0, 2, 5]), present=present)
    wanted = refine(image, own[[0, 1, 3]], settings, class_of=np.array([0, 0, 5]))
    np.testing.assert_array_equal(without, wanted)
    listed = refine(image, own, settings, class_of=np.array([0, 0, 2, 5]), present=present.tolist())
    np.testing.assert_array_equal(listed, without)
    assert set(np.unique(without)) <= {1, 6}


def test_class_maps_of_a_result_are_the_largest_of_each_class():
    own = maps(3)
    located = Located(
        maps=own,
        class_of=np.array([1, 1, 3]),
        present=np.array([False, True, False, True]),
        scores=np.zeros(4, np.float32),
        match=np.zeros(0, np.float32),
    )
    found = stages._by_class(located, 4)
    np.testing.assert_array_equal(found[1], own[:2].max(axis=0))
    np.testing.assert_array_equal(found[3], own[2])
    assert not found[[0, 2]].any()


@pytest.mark.parametrize(("count", "class_of"), [(2, None), (4, [0, 0, 1, 1]), (4, None)])
def test_classes_are_counted_for_the_background_not_maps(count: int, class_of: Any):
    """Two classes leave room for one, whatever the number of their maps; four do not."""
    own = maps(count)
    own[:, :2] = 0
    settings = Settings(crf=None, background="auto", blur=0.0)
    of = None if class_of is None else np.array(class_of)
    labels = refine(Image.new("RGB", (60, 40)), own, settings, class_of=of)
    assert (0 in labels) == (count == 2 or class_of is not None)


def test_maps_may_lie_in_memory_as_they_like():
    image, settings, own = Image.new("RGB", (60, 40)), Settings(crf=None), maps(3)
    wanted = refine(image, own, settings)
    for other in (np.asfortranarray(own), np.repeat(own, 2, axis=2)[..., ::2]):
        np.testing.assert_array_equal(refine(image, other, settings), wanted)


def test_a_result_of_another_image_is_refused(segmenter: Segmenter, picture: Any):
    result = segmenter.segment(picture(0), NAMES, settings=Settings(passes=1, crf=None))
    with pytest.raises(InputError, match="the image is 30x20, its labels are 80x60"):
        segmenter.refine(picture(0, 30, 20), result, Settings(crf=None))


def test_a_broken_model_gives_no_labels(segmenter: Segmenter, picture: Any):
    settings = Settings(passes=1, crf=None)
    request = segmenter.prepare(picture(0), NAMES, settings=settings, present="match")
    (located,) = segmenter.locate([request])
    broken = replace(located, scores=located.scores * np.nan, present=np.zeros(3, bool))
    with pytest.raises(ExecutionError, match="score is not finite"):
        segmenter.refine(picture(0), broken, settings)


def test_files_are_written_by_a_stage_of_its_own(
    segmenter: Segmenter, picture: Any, tmp_path: Path
):
    settings = Settings(passes=1, crf=None)
    request = segmenter.prepare(picture(0), NAMES, settings=settings)
    (located,) = segmenter.locate([request])
    result = stages.finish(request, located)
    model = describe(segmenter.model.manifest, segmenter.placement)
    report = stages.save(
        result, request.image, str(tmp_path), name="sub/a\udce9.jpg", settings=settings, model=model
    )
    assert report["image"] == "sub/a\\udce9.jpg"
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".json"}
    assert report["settings"]["crf"] is None
    assert msgspec.json.encode(report)


def test_nothing_to_look_for_is_background():
    image = Image.new("RGB", (30, 20))
    assert not refine(image, maps(0), Settings()).any()
    assert not refine(image, maps(2), Settings(), present=np.zeros(2, bool)).any()


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        (np.zeros((2, 4), np.float32), {}, r"class maps are float32 \[2, 4\]"),
        (np.zeros((2, 4, 4)), {}, r"class maps are float64 \[2, 4, 4\]"),
        (np.zeros((2, 0, 4), np.float32), {}, r"class maps are float32 \[2, 0, 4\]"),
        (np.full((1, 4, 4), np.nan, np.float32), {}, "holds NaN or infinity"),
        (maps(2), {"class_of": np.array([0])}, r"class_of is \[0\] for 2 maps"),
        (maps(2), {"class_of": np.array([0, -1])}, r"class_of is \[0, -1\] for 2 maps"),
        (maps(1), {"class_of": np.array([65535])}, r"class_of is \[65535\] for 1 maps"),
        (maps(3), {"present": np.ones(2, bool)}, "a map is of class 2, and present tells of 2"),
    ],
)
def test_maps_that_cannot_be_used(given: np.ndarray, options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        refine(Image.new("RGB", (30, 20)), given, Settings(crf=None), **options)
