"""A model in use: replaced by renaming it goes on, written to it stops, and never mixes two."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import ModelError, Segmenter, Settings
from pnp_ovss.engine.model.folder import find_model, open_model
from pnp_ovss.export import export
from tests.conftest import IMAGE_SIZE, Exported
from tests.once import made_once

BACKENDS = ["onnxruntime", "openvino"]
TOKENS = Settings(drop_mode="tokens", crf=None)  # needs a third graph, which is opened late
PIXELS = Settings(crf=None)
NAMES = ["cat", "sky"]


@pytest.fixture
def other(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same shapes, so that its files could be taken for the first one's."""

    def make(folder: Path) -> None:
        weights = folder / "checkpoint"
        shutil.copytree(exported.checkpoint, weights)
        _change_weights(weights / "model.safetensors")
        export(str(weights), folder / "model", image_size=IMAGE_SIZE)

    return made_once(tmp_path_factory, "other", make) / "model"


def _change_weights(path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(path)
    save_file({name: value * np.float32(0.9) for name, value in weights.items()}, path)


@pytest.fixture(params=BACKENDS)
def running(request: pytest.FixtureRequest, model_copy: Path) -> Iterator[Segmenter]:
    pytest.importorskip(request.param)
    with Segmenter.load(model_copy, backend=request.param) as segmenter:
        yield segmenter


def copy_into(source: Path, target: Path) -> None:
    """Write over the files of a folder, as `cp -r` does."""
    for path in source.rglob("*"):
        if path.is_file():
            with (target / path.relative_to(source)).open("r+b") as file:
                file.write(path.read_bytes())
                file.truncate()


def test_a_late_graph_of_another_model_is_refused(
    running: Segmenter, other: Path, picture: Callable[..., Image.Image], model_copy: Path
) -> None:
    """The folder is replaced as the README says; its graphs are of two models now."""
    before = running.segment(picture(), NAMES, settings=PIXELS)
    model_copy.rename(model_copy.with_name("old"))
    shutil.copytree(other, model_copy)
    after = running.segment(picture(), NAMES, settings=PIXELS)
    np.testing.assert_array_equal(before.class_maps, after.class_maps)
    with pytest.raises(ModelError, match="was replaced since the model was loaded") as caught:
        running.segment(picture(), NAMES, settings=TOKENS)
    assert "load it again" in caught.value.cure


def test_a_late_graph_that_was_removed(
    running: Segmenter, picture: Callable[..., Image.Image], model_copy: Path
) -> None:
    shutil.rmtree(model_copy)
    running.segment(picture(), NAMES, settings=PIXELS)
    with pytest.raises(ModelError, match="was removed since the model was loaded"):
        running.segment(picture(), NAMES, settings=TOKENS)


def test_a_late_graph_that_is_still_the_same(
    running: Segmenter, picture: Callable[..., Image.Image]
) -> None:
    running.segment(picture(), NAMES, settings=TOKENS)
    assert "vision_tokens" in running.placement.builds


def test_a_copy_into_the_folder_stops_the_running_model(
    running: Segmenter, other: Path, picture: Callable[..., Image.Image], model_copy: Path
) -> None:
    copy_into(other, model_copy)
    for settings in (PIXELS, TOKENS, PIXELS):
        with pytest.raises(ModelError, match="was written to while the model was in use"):
            running.segment(picture(), NAMES, settings=settings)


def test_a_truncated_file_is_an_error_not_the_end_of_the_process(
    running: Segmenter, picture: Callable[..., Image.Image], model_copy: Path
) -> None:
    for path in model_copy.glob("onnx/*_data"):
        os.truncate(path, 0)
    with pytest.raises(ModelError, match="was written to"):
        running.segment(picture(), NAMES, settings=PIXELS)


def test_a_copy_that_keeps_size_and_time_is_noticed(
    running: Segmenter, picture: Callable[..., Image.Image], model_copy: Path
) -> None:
    """As `rsync --inplace --times` makes it of files with the times of their package."""
    (path, *_) = model_copy.glob("onnx/*_data")
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(1000)
        file.write(bytes(64))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ModelError, match="was written to"):
        running.segment(picture(), NAMES, settings=PIXELS)


def test_a_file_that_has_got_another_name_is_compared_nevertheless(
    running: Segmenter, picture: Callable[..., Image.Image], model_copy: Path
) -> None:
    """As a backup by hard links gives it; then its contents are written over."""
    (path, *_) = sorted(model_copy.glob("onnx/vision.onnx_data"))
    os.link(path, model_copy.parent / "backup")
    running.segment(picture(), NAMES, settings=PIXELS)
    times = path.stat()
    with path.open("r+b") as file:
        values = np.frombuffer(file.read(4096), np.float32)
        file.seek(0)
        file.write((-values).tobytes())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.link(path, model_copy.parent / "another")
    with pytest.raises(ModelError, match="was written to"):
        running.segment(picture(), NAMES, settings=TOKENS)


def test_closing_under_running_threads(
    exported: Exported, picture: Callable[..., Image.Image]
) -> None:
    """They are told that the model was closed, whatever becomes of its descriptors."""
    errors: list[Exception] = []
    segmenter = Segmenter.load(exported.folder)
    started = threading.Barrier(4)

    def work() -> None:
        started.wait()
        try:
            while True:
                segmenter.segment(picture(), NAMES, settings=PIXELS)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    time.sleep(0.05)
    segmenter.close()
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    for thread in threads:
        thread.join()
    for descriptor in opened:
        os.close(descriptor)
    assert len(errors) == 3
    assert all("the model was closed" in str(error) for error in errors), errors


def test_files_that_were_only_touched_do_no_harm(
    running: Segmenter, picture: Callable[..., Image.Image], model_copy: Path
) -> None:
    before = running.segment(picture(), NAMES, settings=PIXELS)
    for path in model_copy.rglob("*"):
        os.utime(path)
        path.chmod(0o700)
    after = running.segment(picture(), NAMES, settings=PIXELS)
    np.testing.assert_array_equal(before.labels, after.labels)
    running.segment(picture(), NAMES, settings=TOKENS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_link_that_is_turned_changes_nothing_that_runs(
    exported: Exported,
    other: Path,
    tmp_path: Path,
    picture: Callable[..., Image.Image],
    backend: str,
) -> None:
    pytest.importorskip(backend)
    link = tmp_path / "current"
    link.symlink_to(exported.folder)
    with Segmenter.load(link, backend=backend) as segmenter:
        link.unlink()
        link.symlink_to(other)
        late = segmenter.segment(picture(), NAMES, settings=TOKENS)
    with Segmenter.load(exported.folder, backend=backend) as segmenter:
        want = segmenter.segment(picture(), NAMES, settings=TOKENS)
    np.testing.assert_array_equal(late.class_maps, want.class_maps)


def test_a_relative_path_is_of_the_folder_at_load(
    model_copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    picture: Callable[..., Image.Image],
) -> None:
    monkeypatch.chdir(model_copy.parent)
    with Segmenter.load(model_copy.name) as segmenter:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        segmenter.segment(picture(), NAMES, settings=TOKENS)


def test_export_replaces_a_folder_under_a_running_model(
    exported: Exported, model_copy: Path, picture: Callable[..., Image.Image]
) -> None:
    with Segmenter.load(model_copy) as running:
        before = running.segment(picture(), NAMES, settings=PIXELS)
        export(
            str(exported.checkpoint), model_copy, image_size=IMAGE_SIZE, layer=(0,), overwrite=True
        )
        after = running.segment(picture(), NAMES, settings=PIXELS)
        np.testing.assert_array_equal(before.class_maps, after.class_maps)
        with Segmenter.load(model_copy) as new:
            found = new.segment(picture(), NAMES, settings=PIXELS)
        assert not np.array_equal(found.class_maps, before.class_maps)


def test_closing_gives_the_descriptors_back(exported: Exported) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    Segmenter.load(exported.folder).close()
    before = count()
    for _ in range(3):
        Segmenter.load(exported.folder).close()
    with pytest.raises(ModelError):
        open_model(exported.folder.parent)
    assert count() == before


def test_a_pickled_folder_must_still_be_the_same(model_copy: Path, other: Path) -> None:
    pickled = pickle.dumps(open_model(model_copy))
    assert pickle.loads(pickled).manifest == open_model(model_copy).manifest
    shutil.rmtree(model_copy)
    shutil.copytree(other, model_copy)
    with pytest.raises(ModelError, match="changed"):
        pickle.loads(pickled)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json", "onnx/vision.onnx"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(model_copy: Path, name: str) -> None:
    (model_copy / name).unlink()
    os.mkfifo(model_copy / name)
    code = f"""
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine import ModelError
try: open_model({str(model_copy)!r})
except ModelError: print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=True)
    assert done.stdout == b"refused\n"


def test_a_folder_that_has_the_name_of_the_demo_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    find_model("demo")
    assert not caplog.records
    (tmp_path / "demo").mkdir()
    find_model("demo")
    assert "./demo" in caplog.text
