"""`pnp-ovss export --fused`: to a checkpoint's export, and to a folder that is there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pnp_ovss.engine.cli import main
from pnp_ovss.engine.model.folder import find_model, open_model
from pnp_ovss.engine.settings import Settings
from tests.conftest import Exported

SHORT = ["--passes", "1", "--drop-mode", "attention"]


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A copy of the demo model that the test may change."""
    return Path(shutil.copytree(find_model("demo"), tmp_path / "demo"))


def test_it_is_added_in_place(demo: Path, capsys: pytest.CaptureFixture[str]):
    words = ["export", str(demo), "--fused"]
    assert main(words) == 0
    assert capsys.readouterr().out == f"{demo / 'onnx' / 'segment.onnx'}\n"
    model = open_model(demo)
    baked = model.graph("segment").baked
    assert baked
    assert baked.settings.passes == model.manifest.settings.passes == 2  # as it recommends
    assert main([*words, *SHORT]) == 2
    assert "replace it with --overwrite" in capsys.readouterr().err
    assert main([*words, *SHORT, "--overwrite", "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["graphs"]["segment"]["baked"]["settings"]["passes"] == 1


def test_all_that_is_fixed_is_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = tmp_path / "names.txt"
    names.write_text("sand,pebbles\nsnow\n")
    fixed = ["-c", "cat,turtle", "--classes-file", str(names), "--output-size", "30x40", "--uint8"]
    refining = ["--preset", "released", "--threshold", "0.2", "--blur", "0", "--background", "auto"]
    target = tmp_path / "out"
    assert main(["export", "demo", "--fused", "-o", str(target), *fixed, *refining, *SHORT]) == 0
    graph = open_model(target).graph("segment")
    assert graph.inputs.keys() == {"pixels"}
    assert graph.outputs["labels"].shape == ("batch", 30, 40)
    assert graph.baked
    assert graph.baked.classes == [["cat"], ["turtle"], ["sand", "pebbles"], ["snow"]]
    changes = {"passes": 1, "drop_mode": "attention", "threshold": 0.2, "blur": 0.0}
    wanted = Settings.preset("released", crf=None, background="auto", **changes)
    assert graph.baked.settings == wanted
    assert "segment" not in open_model("demo").manifest.graphs


@pytest.mark.slow
def test_a_checkpoint_is_exported_with_it(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    place = ["-o", str(tmp_path / "m"), "--image-size", "64"]
    words = ["export", str(exported.checkpoint), *place, "--fused", *SHORT]
    assert main(words) == 0
    assert "of PyTorch" in capsys.readouterr().out
    graphs = open_model(tmp_path / "m").manifest.graphs
    assert list(graphs) == ["vision", "salience", "vision_tokens", "segment"]
    many = ",".join(f"name{number}" for number in range(300))
    assert main([*words, "--overwrite", "-c", many]) == 2
    assert "a fused graph takes one caption" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


REFUSED = {
    "in the installation": (["demo", "--fused"], "is part of the installation"),
    "an option of --fused": (["demo", "-o", "m", "--uint8"], "--uint8 is an option of --fused"),
    "a setting": (["demo", "-o", "m", "--passes", "2"], "--passes is an option of --fused"),
    "an option of a checkpoint": (
        ["demo", "--fused", "-o", "m", "--image-size", "64"],
        "--image-size is for a checkpoint",
    ),
    "nothing": (["nothing", "--fused"], "no model folder at 'nothing'"),
    "a model": (["demo", "-o", "m"], "'demo' is a model that was exported before"),
    "all heads": (["x/y", "--all-heads", "--fused"], "--all-heads and --fused exclude each other"),
    "one place": (
        ["demo", "--fused", "-o", "m", "--triton", "m"],
        "-o and --triton are one folder",
    ),
    "a size": (["demo", "--fused", "-o", "m", "--output-size", "480"], "no height and width"),
    "no pixels": (["demo", "--fused", "-o", "m", "--output-size", "0x4"], "output size is 0x4"),
    "tokens": (["demo", "--fused", "-o", "m", "--drop-mode", "tokens"], "drop_mode is 'tokens'"),
    "a class": (["demo", "--fused", "-o", "m", "-c", "dog"], "was not taught to this model"),
    "no passes": (["demo", "--fused", "-o", "m", "--passes", "0"], "passes is 0"),
    "the CRF": (["demo", "--fused", "-o", "m", "--crf", "none"], "No such option '--crf'"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals_leave_nothing_behind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err.replace("\n", " ")
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_needs_no_pytorch(tmp_path: Path):
    code = f"""
import sys
for name in ("torch", "transformers", "safetensors", "onnxruntime", "openvino"):
    sys.modules[name] = None  # an import of it fails
from pnp_ovss.engine.cli import main
assert main(["export", "demo", "--fused", "-o", {str(tmp_path / "m")!r}]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert open_model(tmp_path / "m").has_graph("segment")
