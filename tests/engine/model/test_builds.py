from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from pnp_ovss.engine import BackendError, InputError
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.builds import Build, Recipe
from pnp_ovss.engine.model.folder import DEMO, ModelFolder, find_model, open_model, record_of
from pnp_ovss.engine.model.manifest import FileRecord
from pnp_ovss.engine.model.signature import Graph, Tensor
from pnp_ovss.engine.precision import Precision
from pnp_ovss.export.build.store import build_once
from tests.conftest import Exported
from tests.engine.model.test_folder import flip_a_bit

HERE: dict[str, Any] = {
    "target": "tensorrt-rtx",
    "architecture": lambda: "sm_86",
    "version": lambda: "1.7.1",
}


@pytest.fixture
def model(model_copy: Path) -> ModelFolder:
    return open_model(model_copy)


def built(model: ModelFolder, **changes: Any) -> Build:
    """A build in the folder; what is in it matters to no one here."""
    fields: dict[str, Any] = {
        "target": "tensorrt-rtx",
        "graph": "vision",
        "precision": "fp16",
        "graph_sha256": builds.graph_sha256(model, "vision"),
        "profiles": builds.profiles(model.graph("vision"), [1, 4]),
        "architectures": ["sm_86", "sm_120"],
        "version": "1.7.1",
    }
    recipe = Recipe(**fields | changes)
    return build_once(model, recipe, lambda path: path.write_bytes(recipe.file_name.encode()))


def find(model: ModelFolder, **changes: Any) -> tuple[Path, Recipe]:
    return builds.find(model, "vision", **{**HERE, **changes})


def refusal(model: ModelFolder, **changes: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        find(model, **changes)
    assert f"pnp-ovss build '{model.path}' --target " in caught.value.cure
    return caught.value


@pytest.mark.parametrize(
    ("settings", "only", "wanted"),
    [
        ({"drop_mode": "pixels"}, (), ["vision", "salience"]),
        ({"drop_mode": "tokens"}, (), ["vision", "salience", "vision_tokens"]),
        ({"drop_mode": "tokens", "method": "any"}, (), ["vision", "salience", "vision_tokens"]),
        ({}, (), ["vision", "salience"]),
        ({"drop_mode": "tokens"}, ("salience",), ["salience"]),
        ({"drop_mode": "pixels"}, ("vision_tokens", "vision"), ["vision", "vision_tokens"]),
    ],
)
def test_graphs_to_build(
    exported: Exported, settings: dict[str, str], only: tuple[str, ...], wanted: list[str]
) -> None:
    assert builds.graphs_to_build(open_model(exported.folder), settings, only) == wanted


def test_a_graph_that_there_is_not(exported: Exported) -> None:
    with pytest.raises(InputError, match="no graph 'text'") as caught:
        builds.graphs_to_build(
            open_model(exported.folder), {"drop_mode": "pixels"}, ["vision", "text"]
        )
    assert "vision, salience, vision_tokens" in caught.value.cure


def test_the_shapes_of_the_image_encoder(model: ModelFolder) -> None:
    found = builds.profiles(model.graph("vision"), [4, 1, 4], {"tokens": [16]})
    assert found == [{"batch": 1}, {"batch": 4}]


def test_the_shapes_of_the_matching_branch(model: ModelFolder) -> None:
    """As many pictures as captions, and one picture."""
    found = builds.profiles(model.graph("salience"), [4, 1], {"tokens": [32, 16, 32]})
    assert [(one["batch"], one["tokens"], one["images"]) for one in found] == [
        (1, 16, 1),
        (1, 32, 1),
        (4, 16, 1),
        (4, 16, 4),
        (4, 32, 1),
        (4, 32, 4),
    ]


def test_the_shapes_of_the_image_encoder_of_some_tokens(model: ModelFolder) -> None:
    graph = model.graph("vision_tokens")
    # of 36 patches: all of them, then half of those left
    assert graph.lengths == {"kept": [37, 19, 10, 6]}
    found = builds.profiles(graph, [4, 1], {"tokens": [16]})
    assert found == [{"batch": b, "kept": count} for b in (1, 4) for count in (6, 10, 19, 37)]


def graph_of(**fields: Any) -> Graph:
    shapes = {"x": Tensor("float32", ("rows", "length", 3)), "y": Tensor("float32", ("each", 3))}
    return Graph(file="g.onnx", weights="g.onnx_data", inputs=shapes, outputs={}, **fields)


ROLES = {"rows": "rows", "each": "shared", "length": "padded"}


def test_the_shapes_of_a_graph_without_roles() -> None:
    """Nothing is known of its dimensions, so there is nothing to choose."""
    assert builds.profiles(graph_of(), [1, 4], {"length": [8]}) == [{}]


def test_the_shapes_of_a_graph_with_every_role() -> None:
    graph = graph_of(roles=ROLES, lengths={"length": [8, 5]})
    found = builds.profiles(graph, [2, 1])
    assert [(one["rows"], one["length"], one["each"]) for one in found] == [
        (1, 5, 1),
        (1, 8, 1),
        (2, 5, 1),
        (2, 5, 2),
        (2, 8, 1),
        (2, 8, 2),
    ]
    given = builds.profiles(graph, [1], {"length": [9]})
    assert given == [{"each": 1, "rows": 1, "length": 9}]


@pytest.mark.parametrize(
    ("roles", "wanted"),
    [
        (["rows"], [{"rows": 1}, {"rows": 4}]),
        (["length"], [{"length": 5}, {"length": 8}]),
        (["rows", "each"], [(1, 1), (1, 4), (4, 4)]),
    ],
)
def test_the_shapes_of_a_graph_with_some_roles(
    roles: list[str], wanted: list[dict[str, int] | tuple[int, int]]
) -> None:
    graph = graph_of(roles={name: ROLES[name] for name in roles}, lengths={"length": [8, 5]})
    assert builds.profiles(graph, [1, 4]) == [
        {"each": one[0], "rows": one[1]} if isinstance(one, tuple) else one for one in wanted
    ]


def test_the_name_of_a_build_says_what_it_is(model: ModelFolder) -> None:
    path, record = built(model)
    assert path.parent == builds.builds_folder(model) == model.path / "builds"
    assert path.name.startswith("vision-tensorrt-rtx-fp16-sm_86+sm_120-")
    assert path.suffix == ".engine"
    assert record.file == record_of(path)


@pytest.mark.parametrize(
    "change",
    [
        {"target": "tensorrt"},
        {"graph": "salience"},
        {"precision": "bf16"},
        {"graph_sha256": "0" * 64},
        {"profiles": [{"batch": 1}]},
        {"architectures": ["sm_86"]},
        {"version": "1.7.2"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_builds_of_different_recipes_lie_side_by_side(
    model: ModelFolder, change: dict[str, Any]
) -> None:
    assert built(model).path != built(model, **change).path
    assert len(builds.recorded(model)) == 2


@pytest.mark.parametrize("architecture", ["sm_86", "sm_120"])
def test_a_build_is_found_on_each_architecture_it_was_built_for(
    model: ModelFolder, architecture: str
) -> None:
    path, record = built(model)
    assert find(model, architecture=lambda: architecture) == (path, record.recipe)


def test_of_several_precisions_the_most_exact_is_taken(model: ModelFolder) -> None:
    for best in ("bf16", "fp16", "fp32"):
        built(model, precision=best)
        assert find(model)[1].precision == best
    for wanted in get_args(Precision):
        assert find(model, precision=wanted)[1].precision == wanted


def test_of_several_shapes_those_built_last_are_taken(model: ModelFolder) -> None:
    for batches in ([1, 4], [1, 16], [1]):
        shapes = builds.profiles(model.graph("vision"), batches)
        built(model, profiles=shapes)
        assert find(model)[1].profiles == shapes


def test_none_was_built(model: ModelFolder) -> None:
    built(model, graph="salience")
    built(model, target="tensorrt")
    error = refusal(model)
    assert f"'{model.path}' has no tensorrt-rtx build of vision" in error.cause


def test_one_for_another_gpu(model: ModelFolder) -> None:
    built(model)
    assert (
        "is for sm_120, sm_86; this device is sm_89"
        in refusal(model, architecture=lambda: "sm_89").cause
    )


def test_one_of_another_version(model: ModelFolder) -> None:
    built(model)
    cause = refusal(model, version=lambda: "1.8.0").cause
    assert "was built by tensorrt-rtx 1.7.1; installed is 1.8.0" in cause


def test_one_in_another_precision(model: ModelFolder) -> None:
    built(model)
    error = refusal(model, precision="fp32")
    assert "is in fp16, not in fp32" in error.cause
    assert "--precision fp32" in error.cure


@pytest.mark.parametrize("name", ["onnx/vision.onnx", "onnx/vision.onnx_data"])
def test_one_of_an_older_export(model: ModelFolder, name: str) -> None:
    """Other weights are another graph, too."""
    old = builds.graph_sha256(model, "vision")
    built(model)
    model.manifest.files[name] = FileRecord(1, "f" * 64)
    new = builds.graph_sha256(model, "vision")
    cause = refusal(model).cause
    assert f"was built from graph {old[:8]}; the model's is {new[:8]}" in cause


def test_the_encoder_of_some_tokens_is_built_from_the_weights_of_the_other(
    model: ModelFolder,
) -> None:
    old = builds.graph_sha256(model, "vision_tokens")
    model.manifest.files[model.graph("vision").weight_files[0]] = FileRecord(1, "f" * 64)
    assert builds.graph_sha256(model, "vision_tokens") != old


def test_one_that_only_a_drop_mode_needs(model: ModelFolder) -> None:
    with pytest.raises(BackendError, match="has no tensorrt-rtx build of vision_tokens") as caught:
        builds.find(model, "vision_tokens", **HERE, precision="fp16")
    assert caught.value.cure == (
        f"pnp-ovss build '{model.path}' --target tensorrt-rtx --precision fp16 --drop-mode tokens"
    )


def test_the_command_that_builds_a_graph(model: ModelFolder) -> None:
    """With the settings without which the graph is not built."""
    for_cpu = builds.build_command(model, "aotinductor", "vision", device="cpu")
    assert for_cpu == f"pnp-ovss build '{model.path}' --target aotinductor --device cpu"
    command = f"pnp-ovss build '{model.path}' --target tensorrt"
    assert builds.build_command(model, "tensorrt", "vision", device="cuda:0") == command
    assert builds.build_command(model, "tensorrt", "vision") == command
    assert (
        builds.build_command(model, "tensorrt", "vision", "bf16") == f"{command} --precision bf16"
    )
    wanted = f"{command} --drop-mode tokens"
    assert builds.build_command(model, "tensorrt", "vision_tokens") == wanted
    other = msgspec.structs.replace(
        model.graph("vision"), only_for={"drop_mode": "tokens", "crf": "densecrf"}
    )
    model.manifest.graphs["other"] = other
    wanted += " --crf densecrf"
    assert builds.build_command(model, "tensorrt", "other") == wanted


def test_what_fits_no_longer_hides_nothing_that_does(model: ModelFolder) -> None:
    """One for another GPU and one of another version are not one that fits."""
    built(model, architectures=["sm_89"])
    built(model, version="1.6.0")
    assert "was built by tensorrt-rtx 1.6.0" in refusal(model).cause


def test_a_damaged_build(model: ModelFolder) -> None:
    path, _ = built(model)
    flip_a_bit(path)
    assert f"'{path}' is damaged" in refusal(model).cause


def test_a_build_that_is_gone(model: ModelFolder) -> None:
    path, _ = built(model)
    path.unlink()
    assert f"'{path}' is damaged" in refusal(model).cause


@pytest.mark.parametrize("text", [b"{", b"{}", b"\xff"])
def test_a_damaged_record(model: ModelFolder, text: bytes) -> None:
    path, _ = built(model)
    builds.record_path(path).write_bytes(text)
    with pytest.raises(BackendError, match="cannot be read") as caught:
        find(model)
    assert "delete it" in caught.value.cure


def test_the_record_is_readable_json(model: ModelFolder) -> None:
    path, record = built(model)
    text = path.with_name(path.name + ".json").read_bytes()
    assert msgspec.json.decode(text)["recipe"]["architectures"] == ["sm_86", "sm_120"]
    assert text == msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"


def test_builds_of_the_demo_model_are_not_in_the_installation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in (DEMO, find_model(DEMO)):
        folder = builds.builds_folder(open_model(name))
        assert folder == tmp_path / "pnp-ovss" / "builds" / "demo"
