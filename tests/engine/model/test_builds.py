from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from pnp_ovss.engine import BackendError
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.builds import Build, Recipe
from pnp_ovss.engine.model.folder import (
    DEMO,
    SALIENCE,
    VISION,
    VISION_TOKENS,
    WEIGHTS,
    ModelFolder,
    find_model,
    open_model,
    record_of,
)
from pnp_ovss.engine.model.manifest import FileRecord
from pnp_ovss.engine.precision import Precision
from pnp_ovss.export.build.store import build_once

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
    """An engine in the folder; what is in it matters to no one here."""
    fields: dict[str, Any] = {
        "target": "tensorrt-rtx",
        "graph": "vision",
        "precision": "fp16",
        "graph_sha256": builds.graph_sha256(model.manifest, VISION),
        "profiles": builds.profiles(VISION, [1, 4], [16]),
        "architectures": ["sm_86", "sm_120"],
        "version": "1.7.1",
    }
    recipe = Recipe(**fields | changes)
    return build_once(model, recipe, lambda path: path.write_bytes(recipe.file_name.encode()))


def find(model: ModelFolder, **changes: Any) -> tuple[Path, Recipe]:
    return builds.find(model, VISION, **{**HERE, **changes})


def refusal(model: ModelFolder, **changes: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        find(model, **changes)
    assert f"pnp-ovss build '{model.path}' --target " in caught.value.cure
    return caught.value


def test_the_shapes_of_the_image_encoder() -> None:
    assert builds.profiles(VISION, [4, 1, 4], [16]) == [{"batch": 1}, {"batch": 4}]


def test_the_shapes_of_the_matching_branch() -> None:
    """As many pictures as captions, and one picture."""
    found = builds.profiles(SALIENCE, [4, 1], [32, 16])
    assert [(one["batch"], one["tokens"], one["images"]) for one in found] == [
        (1, 16, 1),
        (1, 32, 1),
        (4, 16, 1),
        (4, 16, 4),
        (4, 32, 1),
        (4, 32, 4),
    ]


def test_the_shapes_of_the_image_encoder_of_some_tokens(model: ModelFolder) -> None:
    kept = builds.kept_tokens(model.manifest)
    assert kept == [37, 19, 10, 6]  # of 36 patches: all of them, then half of those left
    found = builds.profiles(VISION_TOKENS, [4, 1], [16], kept)
    assert found == [{"batch": b, "kept": count} for b in (1, 4) for count in (6, 10, 19, 37)]


def test_the_name_of_an_engine_says_what_it_is(model: ModelFolder) -> None:
    path, record = built(model)
    assert path.parent == model.path / "engines"
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
def test_engines_of_different_recipes_lie_side_by_side(
    model: ModelFolder, change: dict[str, Any]
) -> None:
    assert built(model).path != built(model, **change).path
    assert len(builds.recorded(model)) == 2


@pytest.mark.parametrize("architecture", ["sm_86", "sm_120"])
def test_an_engine_is_found_on_each_architecture_it_was_built_for(
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
        shapes = builds.profiles(VISION, batches, [16])
        built(model, profiles=shapes)
        assert find(model)[1].profiles == shapes


def test_none_was_built(model: ModelFolder) -> None:
    built(model, graph="salience")
    built(model, target="tensorrt")
    error = refusal(model)
    assert f"no tensorrt-rtx engine of vision was built for '{model.path}'" in error.cause


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


@pytest.mark.parametrize("name", [VISION, VISION + WEIGHTS])
def test_one_of_an_older_export(model: ModelFolder, name: str) -> None:
    """Other weights are another graph, too."""
    old = builds.graph_sha256(model.manifest, VISION)
    built(model)
    model.manifest.files[name] = FileRecord(1, "f" * 64)
    new = builds.graph_sha256(model.manifest, VISION)
    cause = refusal(model).cause
    assert f"was built from graph {old[:8]}; the model's is {new[:8]}" in cause


def test_the_encoder_of_some_tokens_is_built_from_the_weights_of_the_other(
    model: ModelFolder,
) -> None:
    old = builds.graph_sha256(model.manifest, VISION_TOKENS)
    model.manifest.files[VISION + WEIGHTS] = FileRecord(1, "f" * 64)
    assert builds.graph_sha256(model.manifest, VISION_TOKENS) != old


def test_one_that_only_a_drop_mode_needs(model: ModelFolder) -> None:
    with pytest.raises(BackendError, match="engine of vision_tokens was built") as caught:
        builds.find(model, VISION_TOKENS, **HERE, precision="fp16")
    assert caught.value.cure == (
        f"pnp-ovss build '{model.path}' --target tensorrt-rtx --precision fp16 --drop-mode tokens"
    )


def test_what_fits_no_longer_hides_nothing_that_does(model: ModelFolder) -> None:
    """One for another GPU and one of another version are not one that fits."""
    built(model, architectures=["sm_89"])
    built(model, version="1.6.0")
    assert "was built by tensorrt-rtx 1.6.0" in refusal(model).cause


def test_a_damaged_engine(model: ModelFolder) -> None:
    path, _ = built(model)
    flip_a_bit(path)
    assert f"'{path}' is damaged" in refusal(model).cause


def test_an_engine_that_is_gone(model: ModelFolder) -> None:
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


def test_engines_of_the_demo_model_are_not_in_the_installation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in (DEMO, find_model(DEMO)):
        folder = builds.folder(open_model(name))
        assert folder == tmp_path / "pnp-ovss" / "engines" / "demo"
