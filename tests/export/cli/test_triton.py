"""What `pnp-ovss export --triton` takes, and what it prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pnp_ovss.engine.cli import main
from tests.conftest import Exported
from tests.export.triton.test_config import parsed, tensors


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give options that must be refused before anything is written; return what was said."""

    def run(*words: str) -> str:
        before = set(tmp_path.rglob("*"))
        assert main(["export", *words]) == 2
        assert set(tmp_path.rglob("*")) == before
        printed = capsys.readouterr()
        assert not printed.out
        return printed.err

    return run


def test_a_repository_of_a_model_folder(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["--triton", str(tmp_path / "models"), "--classes", "cat,dog", "--output-size", "60x80"]
    assert main(["export", str(exported.folder), *words]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{tmp_path / 'models' / 'pnp_ovss'}\n"
    assert "note: pnp_ovss_tensorrt is left out: " in printed.err
    config = parsed((tmp_path / "models" / "pnp_ovss" / "config.pbtxt").read_text())
    assert tensors(config.input).keys() == {"pixels"}
    assert tensors(config.output)["labels"] == ("TYPE_INT32", [60, 80])


@pytest.mark.slow
def test_a_repository_of_a_checkpoint(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["-o", str(tmp_path / "m"), "--image-size", "64", "--triton", str(tmp_path / "models")]
    assert main(["export", str(exported.checkpoint), *words]) == 0
    folder, model = capsys.readouterr().out.splitlines()
    assert folder.startswith(f"{tmp_path / 'm'}  (within ")
    assert model == str(tmp_path / "models" / "pnp_ovss")


def test_a_place_that_is_taken_is_refused_before_the_export(
    exported: Exported, tmp_path: Path, refused: Callable[..., str]
):
    (tmp_path / "models" / "resnet").mkdir(parents=True)
    words = ["-o", str(tmp_path / "m"), "--triton", str(tmp_path / "models")]
    said = refused(str(exported.checkpoint), *words)
    assert "is not a Triton model repository of pnp-ovss alone" in said
    assert "choose another folder with --triton" in said


def test_a_name_that_is_none_is_refused_before_the_export(
    exported: Exported, tmp_path: Path, refused: Callable[..., str]
):
    words = ["-o", str(tmp_path / "m"), "--triton", str(tmp_path / "models"), "--classes", "cat,"]
    assert "has an empty name" in refused(str(exported.checkpoint), *words)


def test_an_output_that_nothing_is_written_to(
    exported: Exported, tmp_path: Path, refused: Callable[..., str]
):
    words = ["-o", str(tmp_path / "copy"), "--triton", str(tmp_path / "models")]
    assert "-o is for a checkpoint, or for --fused" in refused(str(exported.folder), *words)
