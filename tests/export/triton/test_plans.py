from __future__ import annotations

from typing import Any

import pytest

from pnp_ovss.engine import BackendError
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.builds import Build, Recipe
from pnp_ovss.engine.model.folder import ModelFolder
from pnp_ovss.engine.model.signature import Profile, Signature, Tensor
from pnp_ovss.export.build.store import build_once
from pnp_ovss.export.triton.plans import compute_capability, find_plans, in_profiles
from tests.engine.model.test_folder import flip_a_bit


def built(model: ModelFolder, batches: tuple[int, ...] = (1, 2, 3, 4), **changes: Any) -> Build:
    """A build in the folder. TensorRT, which is not here, would make what is in its file."""
    fields: dict[str, Any] = {
        "target": "tensorrt",
        "graph": "segment",
        "precision": "fp16",
        "graph_sha256": builds.graph_sha256(model, "segment"),
        "profiles": builds.profiles(model.graph("segment"), batches, {"tokens": [16]}),
        "architectures": ["sm_86"],
        "version": "11.4.0",
    }
    recipe = Recipe(**fields | changes)
    return build_once(model, recipe, lambda path: path.write_bytes(recipe.file_name.encode()))


def unheard(note: str) -> None:
    raise AssertionError(note)


def refusal(model: ModelFolder) -> str:
    with pytest.raises(BackendError) as caught:
        find_plans(model, "segment", unheard)
    command = f"pnp-ovss build '{model.path}' --target tensorrt --graph segment --batch 1,2,3,4"
    assert caught.value.cure == command
    return caught.value.cause


def test_builds_for_several_gpus(model: ModelFolder):
    made = {one: built(model, architectures=[one]) for one in ("sm_120", "sm_86")}
    plans = find_plans(model, "segment", unheard)
    assert plans.files == {name: build.path for name, build in made.items()}
    assert plans.profiles == made["sm_86"].record.recipe.profiles
    assert plans.largest == 4


@pytest.mark.parametrize(
    ("architecture", "capability"), [("sm_75", "7.5"), ("sm_86", "8.6"), ("sm_120", "12.0")]
)
def test_gpus_as_the_server_calls_them(architecture: str, capability: str):
    assert compute_capability(architecture) == capability


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        ({"version": "11.3.0"}, True),
        ({"precision": "bf16"}, True),
        ({"batches": (1, 2)}, True),
        ({"graph_sha256": "0" * 64}, True),
        ({"graph": "vision"}, False),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_a_build_unlike_the_newest_is_left_out(
    model: ModelFolder, changes: dict[str, Any], left_out: bool
):
    """One configuration serves all files, and one version of TensorRT loads them."""
    built(model, architectures=["sm_89"], **changes)
    newest, notes = built(model), []
    assert find_plans(model, "segment", notes.append).files == {"sm_86": newest.path}
    assert len(notes) == left_out
    assert all("by tensorrt 11.4.0 in fp16" in one and "left out: 1" in one for one in notes)


def test_a_build_that_was_made_again_with_other_shapes(model: ModelFolder):
    built(model, (1, 2))
    again, notes = built(model, (1, 2, 3)), []
    plans = find_plans(model, "segment", notes.append)
    assert (plans.files, plans.largest) == ({"sm_86": again.path}, 3)


def test_the_server_forms_any_batch_up_to_the_limit(model: ModelFolder):
    built(model, (1, 2, 4, 16))
    notes: list[str] = []
    assert find_plans(model, "segment", notes.append).largest == 2
    (note,) = notes
    assert "lacks that of 3: it is served with batches up to 2" in note
    assert f"pnp-ovss build '{model.path}' --target tensorrt --graph segment " in note


def test_builds_of_tensorrt_rtx_are_left_out(model: ModelFolder):
    for architecture in ("sm_86", "sm_120"):
        built(model, target="tensorrt-rtx", architectures=[architecture])
    notes: list[str] = []
    with pytest.raises(BackendError, match="has no tensorrt build of segment"):
        find_plans(model, "segment", notes.append)
    (note,) = notes
    assert "Triton cannot load builds of tensorrt-rtx" in note


def test_no_builds(model: ModelFolder):
    assert f"'{model.path}' has no tensorrt build of segment" in refusal(model)


def test_builds_of_an_earlier_export(model: ModelFolder):
    built(model, graph_sha256="0" * 64)
    assert "are of an earlier export" in refusal(model)


def test_a_damaged_build(model: ModelFolder):
    flip_a_bit(built(model).path)
    assert "is damaged" in refusal(model)


def test_a_build_without_single_images(model: ModelFolder):
    built(model, (2, 4))
    assert "takes no single image" in refusal(model)


@pytest.mark.parametrize(
    ("profiles", "shape"),
    [
        ([{"batch": 1, "tokens": 16, "classes": 64}], ("batch", 64, 16)),
        ([{"batch": 1, "tokens": one, "classes": 64} for one in (16, 32)], ("batch", 64, "tokens")),
        ([{"batch": one, "tokens": 16, "classes": 64} for one in (1, 2)], ("batch", 64, 16)),
    ],
)
def test_a_dimension_that_is_alike_in_all_profiles(
    profiles: list[Profile], shape: tuple[int | str, ...]
):
    tensor = Tensor("float32", ("batch", "classes", "tokens"))
    graph = Signature(inputs={"x": tensor}, outputs={"y": tensor}, roles={"batch": "rows"})
    found = in_profiles(graph, profiles)
    assert found.inputs["x"].shape == found.outputs["y"].shape == shape
