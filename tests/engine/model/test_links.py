"""Models that are laid out like the Hugging Face cache: every file is a link to another folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnp_ovss.engine import ModelError, Segmenter, Settings
from pnp_ovss.engine.model import files, links
from pnp_ovss.engine.model.folder import open_model, record_of
from tests.conftest import Exported

NAMES = ["cat", "sky"]
TOKENS = Settings(drop_mode="tokens", crf=None)  # runs all graphs of the folder


@pytest.fixture
def snapshot(exported: Exported, tmp_path: Path) -> Path:
    """The model as the cache has it: `snapshots/main/onnx/x -> ../../../blobs/<sha256>`."""
    folder, blobs = tmp_path / "cache" / "snapshots" / "main", tmp_path / "cache" / "blobs"
    blobs.mkdir(parents=True)
    for source in exported.folder.rglob("*"):
        if source.is_file():
            blob = blobs / record_of(source).sha256
            blob.write_bytes(source.read_bytes())
            link = folder / source.relative_to(exported.folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "pnp-ovss"


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "auto"])
def test_it_loads_and_gives_the_same(
    snapshot: Path, exported: Exported, picture: Callable[..., Image.Image], backend: str
) -> None:
    pytest.importorskip("openvino" if backend != "onnxruntime" else "onnxruntime")
    with Segmenter.load(snapshot, backend=backend) as linked:
        assert not [one for one in linked.placement.passed_over if "link" in one.reason]
        found = linked.segment(picture(), NAMES, settings=TOKENS)
        taken = linked.placement.backend or ""
    with Segmenter.load(exported.folder, backend=taken) as plain:
        expected = plain.segment(picture(), NAMES, settings=TOKENS)
    np.testing.assert_array_equal(found.class_maps, expected.class_maps)


def names(cache: Path) -> set[Path]:
    return {path for path in (cache / "links").rglob("*") if path.is_file()}


def test_files_get_a_second_name_once(snapshot: Path, cache: Path) -> None:
    """No second copy, and no other time of the file for whoever else has it open."""
    model = open_model(snapshot)
    states = []
    for _ in range(2):
        with links.without_links(model, "vision") as path:
            assert path.is_relative_to(cache)
            assert not path.is_symlink()
            assert path.samefile(model.graph_path("vision"))
            states.append(path.stat())
    assert [state.st_nlink for state in states] == [2, 2]
    assert states[0].st_ctime_ns == states[1].st_ctime_ns
    assert len(names(cache)) == 2


def test_names_of_deleted_models_are_removed(
    snapshot: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(snapshot)
    with links.without_links(model, "vision"):
        pass
    for path in (snapshot / "onnx").glob("vision*"):
        path.resolve().unlink()
    monkeypatch.setattr(links, "_COPYING", -1)
    with links.without_links(model, "salience"):
        assert {path.name.split(".")[0] for path in names(cache)} == {"salience"}


def test_files_are_copied_where_they_cannot_be_linked(
    snapshot: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(links.os, "link", refuse)
    model = open_model(snapshot)
    with links.without_links(model, "vision") as path:
        assert path.read_bytes() == model.graph_path("vision").read_bytes()
    assert not names(cache)


def test_a_link_that_is_made_spoils_no_model_that_runs(
    snapshot: Path,
    picture: Callable[..., Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
) -> None:
    """Without verification nothing is compared with the manifest, and little is read again."""
    read: list[int] = []
    sha256_of = files.sha256_of

    def counted(descriptor: int) -> str:
        read.append(descriptor)
        return sha256_of(descriptor)

    monkeypatch.setattr(files, "sha256_of", counted)
    with Segmenter.load(snapshot, verify=False) as segmenter:
        segmenter.segment(picture(), NAMES, settings=TOKENS)
        assert not read
    with Segmenter.load(snapshot) as segmenter:
        first = len(read)
        segmenter.segment(picture(), NAMES, settings=TOKENS)
        Segmenter.load(snapshot).close()
        del read[:]
        segmenter.segment(picture(), NAMES, settings=TOKENS)
        assert not read
    assert first == len(segmenter.model.manifest.files)


def test_a_folder_of_files_is_used_as_it_is(exported: Exported, cache: Path) -> None:
    model = open_model(exported.folder)
    with links.without_links(model, "vision") as path:
        assert path == model.graph_path("vision")
    assert not cache.exists()


def test_a_link_to_the_folder_itself_is_no_matter(
    exported: Exported, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(exported.folder)
    with links.without_links(open_model(tmp_path / "link"), "vision"):
        assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_told(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with (
        pytest.raises(ModelError, match="are links, and need a place") as caught,
        links.without_links(open_model(snapshot), "vision"),
    ):
        pass
    assert "XDG_CACHE_HOME" in caught.value.cure


def test_a_backend_s_reason_is_told_whole(exported: Exported, tmp_path: Path) -> None:
    """OpenVINO's errors begin with places in its sources; what is wrong follows."""
    pytest.importorskip("openvino")
    from pnp_ovss.engine.runners.openvino import OpenVinoRunner

    path = tmp_path / "vision.onnx"
    path.write_bytes(open_model(exported.folder).graph_path("vision").read_bytes())
    with pytest.raises(ModelError) as caught:  # the weights are missing
        OpenVinoRunner(path)
    assert "onnx_data" in caught.value.cause
    assert "core.cpp" not in caught.value.cause
    assert "\n" not in caught.value.cause
