"""What `pnp-ovss export` prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pnp_ovss.engine.cli import main
from tests.conftest import Exported


def test_the_folder_and_how_exact_it_is_are_told(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["export", str(exported.checkpoint), "-o", str(tmp_path / "m"), "--image-size", "64"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{tmp_path / 'm'}  (within ")
    assert printed.out.endswith(" of PyTorch)\n")
    assert "writing the graph salience" in printed.err

    assert main([*words, "--overwrite", "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest["graphs"].keys() == {"vision", "salience", "vision_tokens"}
