"""Hub ids, without a network: from a hub cache that was filled before, or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pnp_ovss.engine import ModelError, Segmenter
from pnp_ovss.engine.model.folder import open_model
from tests.conftest import SAMPLES, Exported

HUB_ID = "somebody/blip-itm-tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


def segment(environment: dict[str, str], output: Path, prelude: str = "") -> tuple[int, str]:
    words = ["segment", str(SAMPLES / "beach.jpg"), "-c", "water", "-m", HUB_ID, "--crf", "none"]
    code = f"import sys; {prelude}\nfrom pnp_ovss.engine.cli import main\n"
    code += f"sys.exit(main({[*words, '-o', str(output)]!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.slow
def test_hub_id_is_exported_on_first_use(exported: Exported, environment, tmp_path: Path):
    repository = tmp_path / "hub" / "hub" / "models--somebody--blip-itm-tiny"
    shutil.copytree(exported.checkpoint, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)

    code, said = segment(environment, tmp_path / "first")
    assert code == 0, said
    assert "loading somebody/blip-itm-tiny" in said
    folder = tmp_path / "cache" / "pnp-ovss" / "models" / "somebody--blip-itm-tiny"
    checkpoint = open_model(folder).manifest.checkpoint
    assert (checkpoint.source, checkpoint.revision) == (HUB_ID, COMMIT)

    code, said = segment(environment, tmp_path / "second")
    assert code == 0, said
    assert "loading" not in said


@pytest.mark.slow
def test_hub_id_that_cannot_be_fetched_is_named(environment, tmp_path: Path):
    code, said = segment(environment, tmp_path / "out")
    assert code == 2
    assert f"cannot fetch '{HUB_ID}'" in said
    assert "Traceback" not in said
    assert not (tmp_path / "cache").exists()


def test_hub_id_without_the_export_extra_gives_the_command(environment, tmp_path: Path):
    code, said = segment(environment, tmp_path / "out", "sys.modules['torch'] = None")
    assert code == 2
    assert "pip install 'pnp-ovss[export]'" in said
    assert "Traceback" not in said


def test_loading_a_hub_id_never_exported_gives_the_command(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=f"pnp-ovss export {HUB_ID} -o"):
        Segmenter.load(HUB_ID)
