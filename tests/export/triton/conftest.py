from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.export.fused import Fused, add_fused
from tests.conftest import Exported
from tests.export.triton.server import install, install_packages
from tests.once import made_once


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Triton Inference Server, unpacked."""
    return made_once(tmp_path_factory, "tritonserver", install)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What models in Python import in the server."""
    return made_once(tmp_path_factory, "tritonserver-packages", install_packages)


@pytest.fixture(scope="session")
def fused_folder(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder with the graph that TensorRT is to build."""

    def make(folder: Path) -> None:
        model = shutil.copytree(exported.folder, folder / "model")
        add_fused(model, Fused(settings=open_model(model).manifest.settings, uint8=True))

    return made_once(tmp_path_factory, "fused", make) / "model"


@pytest.fixture
def model(fused_folder: Path, tmp_path: Path) -> ModelFolder:
    """A copy of it, to which builds may be added."""
    return open_model(shutil.copytree(fused_folder, tmp_path / "model"))
