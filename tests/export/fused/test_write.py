"""A fused graph and its files: what is written where, and what is shared."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from pnp_ovss.engine import InputError, ModelError, OutputError, Segmenter, Settings
from pnp_ovss.engine.methods.pnp_ovss.fused import caption_inputs
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import find_model, open_model, record_of, write_manifest
from pnp_ovss.engine.model.manifest import MANIFEST
from pnp_ovss.engine.model.signature import Baked
from pnp_ovss.export.fused import Fused, add_fused, write_fused
from pnp_ovss.export.fused.write import copy_with_fused
from tests import thresholds
from tests.export.fused.hosts import HOSTS, off

PAPER = Fused(settings=Settings())
SHORT = Fused(settings=Settings(passes=1))
LABELS = replace(SHORT, output_size=(1080, 1920))
OLD = Path(__file__).parents[2] / "engine" / "model" / "version_1"


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy of the demo model that the test may change."""
    return Path(shutil.copytree(find_model("demo"), tmp_path / "demo"))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_is_small_and_has_no_weights_of_its_own(demo: Path):
    before = names(demo)
    manifest = add_fused(demo, PAPER)
    assert names(demo) == before | {"onnx/segment.onnx"}
    graph = manifest.graphs["segment"]
    assert graph.file == "onnx/segment.onnx"
    assert graph.weights == ["onnx/vision.onnx_data", "onnx/salience.onnx_data"]
    assert manifest.files[graph.file].size < 500_000
    assert list(manifest.graphs) == ["vision", "salience", "vision_tokens", "segment"]
    model = open_model(demo)
    assert model.manifest == manifest
    assert model.has_graph("segment")
    assert model.graph("segment").baked == PAPER.baked
    with Segmenter.load(demo, device="cpu") as segmenter:
        assert segmenter.segment(np.zeros((9, 9, 3), np.uint8), ["cat"]).labels.shape == (9, 9)


def test_the_file_tells_what_is_fixed(demo: Path):
    fused = Fused(
        settings=Settings(passes=3), classes=("cat", ("sand", "snow")), output_size=(4, 5)
    )
    add_fused(demo, fused)
    (entry,) = onnx.load(demo / "onnx" / "segment.onnx", load_external_data=False).metadata_props
    assert entry.key == "pnp_ovss"
    told = msgspec.json.decode(entry.value)
    assert (told["settings"]["passes"], told["settings"]["crf"]) == (3, None)
    assert (told["classes"], told["output_size"]) == ([["cat"], ["sand", "snow"]], [4, 5])
    assert msgspec.json.decode(entry.value, type=Baked) == fused.baked


def test_one_that_is_there_is_replaced_on_demand(demo: Path):
    first = add_fused(demo, LABELS)
    assert "onnx/segment.onnx_data" in first.files  # the matrices of the labels
    assert first.graphs["segment"].weight_files[-1] == "onnx/segment.onnx_data"
    with pytest.raises(OutputError, match="has a fused graph already") as caught:
        add_fused(demo, SHORT)
    assert "--overwrite" in caught.value.cure
    assert open_model(demo).manifest == first
    second = add_fused(demo, SHORT, overwrite=True)
    assert open_model(demo).manifest == second
    assert not (demo / "onnx" / "segment.onnx_data").exists()
    assert second.graphs["segment"].outputs["match"].shape == ("batch", 1)


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_a_crash_leaves_a_whole_folder(demo: Path, monkeypatch: pytest.MonkeyPatch, there: bool):
    """At each replacement of a file by a new one."""
    if there:
        add_fused(demo, SHORT)
    replaced = Path.replace
    for crash in range(3 if there else 2):
        left = crash

        def replace_file(self: Path, target: Path) -> Path:
            nonlocal left
            if not left:
                raise OSError("power is gone")
            left -= 1
            return replaced(self, target)

        folder = Path(shutil.copytree(demo, demo.with_name(f"crash{crash}")))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace_file)
            with pytest.raises(OutputError, match="power is gone"):
                add_fused(folder, SHORT, overwrite=True)
        open_model(folder)  # compares every file
        assert not list((folder / "onnx").glob(".*"))


def test_the_model_of_the_installation_is_left_alone():
    before = (find_model("demo") / MANIFEST).read_bytes()
    with pytest.raises(OutputError, match="'demo' is part of the installation") as caught:
        add_fused(find_model("demo"), SHORT)
    assert "-o DIR" in caught.value.cure
    assert (find_model("demo") / MANIFEST).read_bytes() == before


@pytest.mark.slow
def test_a_copy_leaves_the_folder_alone(demo: Path, tmp_path: Path):
    (demo / "builds").mkdir()
    (demo / "builds" / ".half.lock").touch()
    (demo / "builds" / "one.engine").write_bytes(b"build")
    before = (demo / MANIFEST).read_bytes()
    manifest = copy_with_fused(demo, tmp_path / "copy", SHORT)
    assert open_model(tmp_path / "copy").manifest == manifest
    assert not (tmp_path / "copy/onnx/vision.onnx_data").samefile(demo / "onnx/vision.onnx_data")
    assert (tmp_path / "copy/builds/one.engine").read_bytes() == b"build"
    assert not list((tmp_path / "copy").rglob(".*"))
    assert (demo / MANIFEST).read_bytes() == before
    assert not (demo / "onnx" / "segment.onnx").exists()
    with pytest.raises(OutputError, match="exists"):
        copy_with_fused(demo, tmp_path / "copy", SHORT)
    copy_with_fused(demo, tmp_path / "copy", LABELS, overwrite=True)
    assert open_model(tmp_path / "copy").graph("segment").outputs.keys() >= {"labels"}


@pytest.mark.slow
def test_to_another_place_its_weights_come_along(demo: Path, tmp_path: Path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    model = open_model(demo)
    files = write_fused(model, SHORT, place / "model.onnx")
    assert [file.name for file in files] == [
        "model.onnx",
        "vision.onnx_data",
        "salience.onnx_data",
    ]
    feeds = caption_inputs(model, [["cat"]], SHORT.settings)
    feeds["pixel_values"] = np.ones((1, 3, 256, 256), np.float32)
    shutil.rmtree(demo)
    assert HOSTS["onnxruntime"](place / "model.onnx", feeds)["class_maps"].shape == (1, 1, 16, 16)
    with pytest.raises(OutputError, match="cannot write"):
        write_fused(open_model("demo"), SHORT, place / "nowhere" / "model.onnx")


def test_a_name_whose_weights_are_those_of_another_graph(demo: Path, tmp_path: Path):
    with pytest.raises(InputError, match="would share the file of weights"):
        write_fused(open_model(demo), LABELS, tmp_path / "vision.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


def test_weights_in_another_folder(demo: Path):
    path = demo / "onnx" / "vision.onnx"
    graph = onnx.load(path, load_external_data=False)
    for stored in graph.graph.initializer:
        for entry in stored.external_data:
            if entry.key == "location":
                entry.value = "../vision.onnx_data"
    path.write_bytes(graph.SerializeToString())
    manifest = open_model("demo").manifest
    manifest.files["onnx/vision.onnx"] = record_of(path)
    write_manifest(manifest, demo)
    with pytest.raises(ModelError, match=r"has its weights in another folder: '\.\./vision"):
        add_fused(demo, SHORT)


@pytest.mark.slow
def test_a_folder_of_an_earlier_version(tmp_path: Path):
    """Its graphs transpose square weights; the fused graph has their transposes."""
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    settings = Settings(crf=None)
    with Segmenter.load(folder, backend="onnxruntime", device="cpu") as segmenter:
        image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        wanted = segmenter.segment(image, ["cat", "red boats"], settings=settings)
        pixels = segmenter.method.graphs.normalize(image[None])  # type: ignore[attr-defined]
    manifest = add_fused(folder, Fused(settings=settings))
    model = open_model(folder)
    assert manifest.schema_version == 2
    graph = ir.load(model.graph_path("segment")).graph
    kinds = [node.op_type for node in graph]
    before = ir.load(model.graph_path("salience")).graph
    assert sum(node.op_type == "Transpose" for node in before) > kinds.count("Transpose") / 4
    feeds = {"pixel_values": pixels, **caption_inputs(model, [["cat", "red boats"]], settings)}
    for host in HOSTS.values():
        found = host(model.graph_path("segment"), feeds)["class_maps"][0]
        assert off(found, wanted.class_maps) < thresholds.FUSED
    assert builds.graph_sha256(model, "segment")
