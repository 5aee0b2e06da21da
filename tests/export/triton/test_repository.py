from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from pnp_ovss.engine import InputError, OutputError
from pnp_ovss.engine.model.folder import ModelFolder, open_model
from pnp_ovss.export.fused import Fused
from pnp_ovss.export.triton.repository import write_repository
from tests.conftest import Exported
from tests.export.triton.test_config import parsed, tensors
from tests.export.triton.test_plans import built

VARIANTS: dict[str, dict[str, Any]] = {
    "captions as inputs": {},
    "classes": {"classes": ("cat", ("sofa", "couch"))},
    "labels": {"output_size": (60, 80)},
    "classes and labels": {"classes": ("cat", "dog"), "output_size": (60, 80)},
}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def write(tmp_path: Path, said: list[str]) -> Callable[..., list[str]]:
    """Write the repository `models`, and keep what is said meanwhile."""

    def run(model: ModelFolder, *, overwrite: bool = False, **fixed: Any) -> list[str]:
        fused = Fused(settings=model.manifest.settings, **fixed)
        output = tmp_path / "models"
        return write_repository(model, fused, output, overwrite=overwrite, say=said.append)

    return run


def variants(*, slow: bool = True) -> list[Any]:
    """The variants, all but the first of which are for slow tests."""
    return [
        pytest.param(fixed, id=name, marks=[pytest.mark.slow] if slow and fixed else [])
        for name, fixed in VARIANTS.items()
    ]


@pytest.mark.parametrize("fixed", variants())
def test_the_graph_and_its_configuration(
    exported: Exported, write: Callable[..., list[str]], tmp_path: Path, fixed: dict[str, Any]
):
    model = open_model(exported.folder)
    assert write(model, **fixed) == ["pnp_ovss"]
    folder = tmp_path / "models" / "pnp_ovss"
    weights = {f"{name}.onnx_data" for name in ("vision", "salience")}
    assert {one.name for one in (folder / "1").iterdir()} == {"model.onnx"} | weights
    config = parsed((folder / "config.pbtxt").read_text())
    assert config.name == folder.name
    session = onnxruntime.InferenceSession(folder / "1" / config.default_model_filename)
    for described, real in (
        (config.input, session.get_inputs()),
        (config.output, session.get_outputs()),
    ):
        sizes = {
            one.name: [size if isinstance(size, int) else -1 for size in one.shape[1:]]
            for one in real
        }
        assert {name: dims for name, (_, dims) in tensors(described).items()} == sizes
    inputs = tensors(config.input)
    assert inputs.pop("pixels") == ("TYPE_UINT8", [96, 96, 3])
    assert inputs.keys() == (
        set() if "classes" in fixed else {"input_ids", "attention_mask", "class_tokens"}
    )
    assert tensors(config.output).get("labels") == (
        ("TYPE_INT32", [60, 80]) if "output_size" in fixed else None
    )


def test_builds_are_another_model(
    model: ModelFolder, write: Callable[..., list[str]], said: list[str], tmp_path: Path
):
    """Its dimensions are those of the builds: the server's backend refuses -1 for a number."""
    made = [built(model, architectures=[one]) for one in ("sm_120", "sm_86")]
    assert write(model) == ["pnp_ovss", "pnp_ovss_tensorrt"]
    folder = tmp_path / "models" / "pnp_ovss_tensorrt"
    config = parsed((folder / "config.pbtxt").read_text())
    assert config.name == folder.name
    assert dict(config.cc_model_filenames) == {"12.0": "sm_120.plan", "8.6": "sm_86.plan"}
    for one, name in zip(made, ("sm_120.plan", "sm_86.plan"), strict=True):
        assert (folder / "1" / name).read_bytes() == one.path.read_bytes()
    assert config.max_batch_size == 4
    assert len(config.instance_group[0].profile) == 4
    (classes,) = model.graph("segment").lengths["classes"]
    assert tensors(config.input)["class_tokens"] == ("TYPE_FP32", [classes, 16])
    assert not [line for line in said if "note" in line]


def left_out(said: list[str]) -> str:
    (line,) = [line for line in said if "note: pnp_ovss_tensorrt is left out: " in line]
    return line


@pytest.mark.slow
def test_a_folder_without_the_graph(
    exported: Exported, write: Callable[..., list[str]], said: list[str]
):
    assert write(open_model(exported.folder)) == ["pnp_ovss"]
    wanted = f"has no graph segment to build; pnp-ovss export '{exported.folder}' --fused --uint8"
    assert wanted in left_out(said)


@pytest.mark.slow
def test_a_folder_without_builds(
    fused_folder: Path, write: Callable[..., list[str]], said: list[str]
):
    assert write(open_model(fused_folder)) == ["pnp_ovss"]
    assert "has no tensorrt build of segment; pnp-ovss build " in left_out(said)


@pytest.mark.slow
def test_builds_of_another_graph(
    model: ModelFolder, write: Callable[..., list[str]], said: list[str]
):
    """The two models of a repository take the same inputs, and give the same."""
    built(model)
    assert write(model, output_size=(60, 80)) == ["pnp_ovss"]
    assert "has other inputs, or other things fixed in it" in left_out(said)


@pytest.mark.slow
def test_a_repository_is_replaced_if_that_is_asked_for(
    exported: Exported, write: Callable[..., list[str]], tmp_path: Path
):
    model, config = open_model(exported.folder), tmp_path / "models" / "pnp_ovss" / "config.pbtxt"
    write(model)
    assert "labels" not in config.read_text()
    write(model, output_size=(60, 80), overwrite=True)
    assert "labels" in config.read_text()


@pytest.mark.parametrize(
    ("folders", "cause"),
    [
        (["pnp_ovss"], "' exists"),
        (["pnp_ovss", "pnp_ovss_tensorrt"], "' exists"),
        (["pnp_ovss", "resnet"], "is not a Triton model repository of pnp-ovss alone"),
        (["resnet"], "is not a Triton model repository of pnp-ovss alone"),
    ],
)
def test_what_is_there_is_not_replaced(
    exported: Exported,
    write: Callable[..., list[str]],
    tmp_path: Path,
    folders: list[str],
    cause: str,
):
    """Models of others are not even if that is asked for."""
    for one in folders:
        (tmp_path / "models" / one / "1").mkdir(parents=True)
        (tmp_path / "models" / one / "config.pbtxt").touch()
    with pytest.raises(OutputError, match=cause) as caught:
        write(open_model(exported.folder), overwrite="resnet" in folders)
    assert ("--overwrite" if "resnet" not in folders else "--triton") in caught.value.cure
    assert {one.name for one in (tmp_path / "models").iterdir()} == set(folders)


@pytest.mark.parametrize("file", ["setup.py", "config.pbtxt", "1/model.onnx"])
def test_a_folder_of_the_name_of_a_model_is_not_replaced(
    exported: Exported, write: Callable[..., list[str]], tmp_path: Path, file: str
):
    """Such as a checkout of a project of that name."""
    kept = tmp_path / "models" / "pnp_ovss" / file
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(OutputError, match="is not a Triton model repository of pnp-ovss alone"):
        write(open_model(exported.folder), overwrite=True)
    assert kept.exists()


def test_what_cannot_be_written_leaves_nothing(
    exported: Exported, write: Callable[..., list[str]], tmp_path: Path
):
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError):
        write(open_model(exported.folder), classes=("a" * 10_000,))
    assert set(tmp_path.iterdir()) == before
