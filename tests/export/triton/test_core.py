"""The core of a real server takes every configuration that is written, whatever the backends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.export.fused import Fused, add_fused
from pnp_ovss.export.triton.repository import write_repository
from tests.conftest import Exported
from tests.export.triton.server import complaints, needs_server
from tests.export.triton.test_plans import built
from tests.export.triton.test_repository import variants

pytestmark = [pytest.mark.slow, needs_server]

LACKS_BACKEND = (
    "failed to load '{}' version 1: Invalid argument: unable to find backend library for backend"
    " '{}', try specifying runtime on the model configuration."
)


@pytest.mark.parametrize("fixed", variants(slow=False))
def test_the_core_lacks_nothing_but_the_backends(
    server: Path, model_copy: Path, tmp_path: Path, fixed: dict[str, Any]
):
    settings = open_model(model_copy).manifest.settings
    fused = Fused(settings=settings, uint8=True, **fixed)
    add_fused(model_copy, fused)
    model = open_model(model_copy)
    for architecture in ("sm_86", "sm_120"):
        built(model, architectures=[architecture])
    assert len(write_repository(model, fused, tmp_path / "models")) == 2
    assert sorted(complaints(server, tmp_path / "models")) == [
        LACKS_BACKEND.format("pnp_ovss", "onnxruntime"),
        LACKS_BACKEND.format("pnp_ovss_tensorrt", "tensorrt"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("TYPE_INT64", "TYPE_FP23", "failed to read text proto from"),
        ("[4, 16]", "[4, 32]", "dynamic batching preferred size must be <= max batch size"),
        ('name: "pnp_ovss"', 'name: "other"', "directory name must equal model name"),
    ],
)
def test_the_core_refuses_what_is_wrong(
    server: Path, exported: Exported, tmp_path: Path, before: str, after: str, complaint: str
):
    model = open_model(exported.folder)
    write_repository(model, Fused(settings=model.manifest.settings), tmp_path / "models")
    config = tmp_path / "models" / "pnp_ovss" / "config.pbtxt"
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after, 1))
    (said,) = complaints(server, tmp_path / "models")
    assert complaint in said
