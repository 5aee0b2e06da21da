"""What lies in the place of a model's files, and files that change while the model is in use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.contenders.c_library import NO, CError, CSettings, Library, Model
from tests.engine.capi import built, folders, variants

pytestmark = pytest.mark.slow  # the library is built

BAD_MODEL = 2


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(built.library(tmp_path_factory), variants.stub(tmp_path_factory, "built"))


def refused(library: Library, folder: Path, **options: Any) -> str:
    with pytest.raises(CError) as error:
        Model(library, folder, **options)
    assert error.value.code == BAD_MODEL
    assert "\n" not in error.value.cause
    return error.value.cause


def test_folders_that_are_none(library: Library, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("none", "file", "empty", "loop"):
        assert name in refused(library, tmp_path / name)


@pytest.mark.parametrize(
    "name", ["manifest.json", "tokenizer.json", "onnx/vision.onnx", "onnx/salience.onnx_data"]
)
def test_things_that_are_no_files(library: Library, folder: Path, name: str):
    path = folder / name
    path.unlink()
    assert "missing" in refused(library, folder)
    path.mkdir()
    assert "no regular file" in refused(library, folder)
    path.rmdir()
    os.mkfifo(path)
    assert "no regular file" in refused(library, folder)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "no regular file" in refused(library, folder)
    path.unlink()
    path.write_bytes(b"")
    refused(library, folder)


def test_a_changed_byte_is_found_by_its_sha256_and_a_size_always(library: Library, folder: Path):
    path = folder / "onnx" / "vision.onnx_data"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert "sha256" in refused(library, folder)
    Model(library, folder, verify=NO).__exit__()
    path.write_bytes(data + b"\0")
    assert "bytes" in refused(library, folder, verify=NO)


def test_a_folder_may_be_anywhere(library: Library, small: Path, tmp_path: Path):
    for name in ("with space", "ümlaut", "quote'", "new\nline", "a" * 200, "%s%n"):
        folder = folders.copy_of(small, tmp_path / name)
        Model(library, folder).__exit__()
        Model(library, Path(f"{folder}///")).__exit__()
        (folder / "manifest.json").unlink()
        refused(library, folder)


@pytest.mark.parametrize(
    "how", ["written", "written in secret", "truncated", "replaced", "removed", "touched"]
)
def test_a_file_that_changes_while_the_model_is_in_use(library: Library, folder: Path, how: str):
    settings = CSettings(passes=1, crf=1)
    image = np.zeros((4, 5, 3), np.uint8)
    path = folder / "onnx" / "salience.onnx_data"
    data = path.read_bytes()
    with Model(library, folder) as model:
        first = model.segment(image, ["cat", "frog"], settings).labels
        if how == "written":
            path.write_bytes(data[:-1] + b"x")
        elif how == "truncated":
            path.write_bytes(b"")
        elif how == "touched":
            os.utime(path, ns=(1, 1))
        elif how == "written in secret":
            times = path.stat().st_atime_ns, path.stat().st_mtime_ns
            path.write_bytes(data[:-1] + b"x")
            os.utime(path, ns=times)
        else:
            other = folder / "other"
            other.write_bytes(data)
            other.rename(path) if how == "replaced" else path.unlink()
        if how in ("replaced", "removed", "touched"):  # what is open is whole
            np.testing.assert_array_equal(
                model.segment(image, ["cat", "frog"], settings).labels, first
            )
            return
        with pytest.raises(CError) as error:
            model.segment(image, ["cat", "frog"], settings)
        assert error.value.code == BAD_MODEL
        assert path.name in error.value.cause


def test_a_graph_that_comes_later_is_the_one_that_was_checked(library: Library, folder: Path):
    """vision_tokens.onnx is loaded by the first call that needs it."""
    settings = CSettings(passes=2, drop_mode=2, crf=1)
    image = np.zeros((4, 5, 3), np.uint8)
    path = folder / "onnx" / "vision_tokens.onnx"
    data = path.read_bytes()
    with Model(library, folder) as model:
        path.rename(folder / "moved")
        for _ in range(2):
            with pytest.raises(CError) as error:
                model.segment(image, ["cat", "frog"], settings)
            assert error.value.code == BAD_MODEL
        path.write_bytes(data)
        with pytest.raises(CError, match="replaced"):
            model.segment(image, ["cat", "frog"], settings)
        (folder / "moved").rename(path)
        model.segment(image, ["cat", "frog"], settings)


def test_descriptors_are_closed(library: Library, folder: Path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        Model(library, folder).__exit__()
    (folder / "onnx" / "salience.onnx_data").write_bytes(b"")
    for _ in range(20):
        refused(library, folder)
    assert len(os.listdir("/proc/self/fd")) == before
