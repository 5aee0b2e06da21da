from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import safetensors.numpy

from benchmarks.harness.random_models import random_blip, save_checkpoint
from pnp_ovss.engine import ExecutionError, ModelError, OutputError, Segmenter, Settings
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.model.manifest import MANIFEST, Manifest, Weights
from pnp_ovss.export import export, validate
from pnp_ovss.export.models import blip
from pnp_ovss.export.models.blip.salience import salience_graph
from tests import thresholds
from tests.conftest import IMAGE_SIZE, TEXT, Exported
from tests.conftest import VISION as VISION_SHAPE


def test_manifest_says_what_was_exported(exported: Exported):
    manifest = open_model(exported.folder).manifest
    assert manifest.checkpoint.source == "checkpoint"
    assert (manifest.method, manifest.family) == ("pnp-ovss", "blip")
    preprocess = manifest.preprocess
    assert (preprocess.sides, preprocess.patch) == ((IMAGE_SIZE, IMAGE_SIZE), 16)
    assert (preprocess.grid, preprocess.patches) == ((6, 6), 36)
    assert (manifest.layer, manifest.head) == (2, 3)
    assert manifest.text.first_id == 30523  # [DEC] + 1: the tokenizer has no [ENC] of its own
    assert 0 < manifest.export_error["salience.salience"] < thresholds.SALIENCE
    assert manifest.settings == Settings()
    assert set(manifest.files) == {
        "tokenizer.json",
        "onnx/vision.onnx",
        "onnx/vision.onnx_data",
        "onnx/vision_tokens.onnx",
        "onnx/salience.onnx",
        "onnx/salience.onnx_data",
    }


def test_manifest_survives_json(exported: Exported):
    text = (exported.folder / MANIFEST).read_bytes()
    manifest = msgspec.json.decode(text, type=Manifest)
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest


def test_the_manifest_tells_inputs_outputs_and_what_their_dimensions_are_for(exported: Exported):
    """Of every graph what ONNX Runtime reads from its file."""
    model = open_model(exported.folder)
    for name, graph in model.manifest.graphs.items():
        session = onnxruntime.InferenceSession(str(model.graph_path(name)))
        for values, told in (
            (session.get_inputs(), graph.inputs),
            (session.get_outputs(), graph.outputs),
        ):
            assert {v.name: tuple(v.shape) for v in values} == {
                key: tensor.shape for key, tensor in told.items()
            }
            types = {"float32": "tensor(float)", "int64": "tensor(int64)"}
            assert [v.type for v in values] == [types[one.dtype] for one in told.values()]
    roles = {name: graph.roles for name, graph in model.manifest.graphs.items()}
    assert roles == {
        "vision": {"batch": "rows"},
        "salience": {"batch": "rows", "images": "shared", "tokens": "padded"},
        "vision_tokens": {"batch": "rows", "kept": "padded"},
    }
    salience, some = (model.graph(name) for name in ("salience", "vision_tokens"))
    assert (salience.gradient, some.gradient) == (True, False)
    assert (salience.lengths, salience.limits) == ({"tokens": [16, 32, 64]}, {"tokens": 512})
    assert (some.lengths, some.limits) == ({"kept": [37, 19, 10, 6]}, {"kept": 37})
    assert some.weights == model.graph("vision").weights


def test_batch_and_tokens_are_dynamic(exported: Exported):
    session = onnxruntime.InferenceSession(str(exported.folder / "onnx" / "salience.onnx"))
    shapes = {v.name: v.shape for v in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {
        "image_embeds": ["images", 37, 96],
        "input_ids": ["batch", "tokens"],
        "attention_mask": ["batch", "tokens"],
        "patch_keep": ["images", 36],
        "itm_logits": ["batch", 2],
        "salience": ["batch", "tokens", 36],
    }


@pytest.mark.parametrize("weights", get_args(Weights))
def test_both_image_encoders_have_the_same_weights(
    exported: Exported, exported_in_float16: Path, weights: Weights
):
    """In one file: that of some tokens has nothing of its own but its nodes."""
    folder = exported.folder if weights == "float32" else exported_in_float16
    places = [
        {
            name: (value.const_value.location, value.const_value.offset, value.const_value.length)
            for name, value in ir.load(folder / "onnx" / f"{graph}.onnx").graph.initializers.items()
            if isinstance(value.const_value, ir.ExternalTensor)
        }
        for graph in ("vision", "vision_tokens")
    ]
    assert places[0] == places[1]
    assert len(places[0]) > 10
    assert (folder / "onnx" / "vision_tokens.onnx").stat().st_size < 30_000


def test_several_layers_and_all_heads(exported: Exported, tmp_path: Path):
    manifest = export(
        str(exported.checkpoint), tmp_path / "m", image_size=64, layer=(1, 0), head="all"
    )
    assert manifest.layer == [0, 1]
    assert manifest.head == [0, 1, 2, 3]


def test_all_heads_folder_is_for_tuning_only(exported: Exported, tmp_path: Path):
    manifest = export(str(exported.checkpoint), tmp_path / "m", image_size=64, all_heads=True)
    assert manifest.all_heads
    session = onnxruntime.InferenceSession(str(tmp_path / "m" / "onnx" / "salience.onnx"))
    assert manifest.layer == [0, 1, 2]  # the last of four has no salience
    assert session.get_outputs()[1].shape == ["batch", 3, 4, "tokens", 16]
    with pytest.raises(ModelError, match="--all-heads"):
        Segmenter.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 100}, "not a multiple of the model's patch size 16"),
        ({"layer": (4,)}, "there is no layer 4"),
        (
            {"layer": (3,)},
            "layer 3 is the model's last, and the last has no salience for class names",
        ),
        ({"layer": (3, 1)}, "as the match is read off the first token"),
        ({"head": (-1,)}, "there is no head -1"),
        ({"layer": ()}, "layer is empty"),
        ({"layer": "1"}, "layer is '1'"),
        ({"head": (1,), "all_heads": True}, "exclude each other"),
        ({"tokenizer": Path("nowhere.json")}, "no tokenizer at 'nowhere.json'"),
    ],
)
def test_wrong_choices_leave_nothing_behind(exported: Exported, tmp_path: Path, options, message):
    with pytest.raises(ModelError, match=message):
        export(str(exported.checkpoint), tmp_path / "m", **{"image_size": 64, **options})
    assert not list(tmp_path.iterdir())


def test_all_layers_are_all_but_the_last(exported: Exported, tmp_path: Path):
    manifest = export(str(exported.checkpoint), tmp_path / "m", image_size=64, layer="all")
    assert manifest.layer == [0, 1, 2]


def test_a_model_of_one_cross_attention_layer_has_no_salience(tokenizer, tmp_path: Path):
    model = random_blip(VISION_SHAPE, {**TEXT, "num_hidden_layers": 1})
    save_checkpoint(model, tokenizer, tmp_path / "checkpoint")
    for layer in (None, "all", (0,)):
        with pytest.raises(ModelError, match="has a single cross-attention layer, and the last"):
            export(str(tmp_path / "checkpoint"), tmp_path / "m", image_size=64, layer=layer)


def test_of_two_layers_the_first_is_taken(tokenizer, tmp_path: Path):
    model = random_blip(VISION_SHAPE, {**TEXT, "num_hidden_layers": 2})
    save_checkpoint(model, tokenizer, tmp_path / "checkpoint")
    manifest = export(str(tmp_path / "checkpoint"), tmp_path / "m", image_size=64)
    assert manifest.layer == 0


def test_export_out_of_tolerance_leaves_nothing_behind(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(blip, "salience_graph", wrong_head)
    with pytest.raises(
        ExecutionError, match=r"the exported salience.salience is off .* nothing was written"
    ):
        export(str(exported.checkpoint), tmp_path / "m", image_size=64)
    assert not list(tmp_path.iterdir())


def wrong_head(model: Any, layers: Any, heads: list[int], *, separate: bool) -> ir.Model:
    return salience_graph(model, layers, [head - 1 for head in heads], separate=separate)


def test_existing_folder_is_replaced_only_on_demand(exported: Exported, model_copy: Path):
    checkpoint = str(exported.checkpoint)
    with pytest.raises(OutputError, match="--overwrite"):
        export(checkpoint, model_copy, image_size=64)
    assert open_model(model_copy).manifest.preprocess.sides == (IMAGE_SIZE, IMAGE_SIZE)
    export(checkpoint, model_copy, image_size=64, overwrite=True)
    assert open_model(model_copy).manifest.preprocess.sides == (64, 64)
    assert [path.name for path in model_copy.parent.iterdir()] == ["model"]


def test_folder_of_something_else_is_never_replaced(exported: Exported, tmp_path: Path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="not a model folder"):
        export(str(exported.checkpoint), tmp_path, image_size=64, overwrite=True)
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"


def test_empty_folder_is_taken(exported: Exported, tmp_path: Path):
    export(str(exported.checkpoint), tmp_path, image_size=64)
    assert open_model(tmp_path).manifest.preprocess.sides == (64, 64)


def test_unwritable_place_is_named(exported: Exported, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        export(str(exported.checkpoint), tmp_path / "file" / "m", image_size=64)


def test_folder_is_readable_by_others(exported: Exported):
    assert os.stat(exported.folder).st_mode & 0o777 == 0o755


def test_position_embeddings_are_those_of_transformers(exported: Exported):
    import torch

    from pnp_ovss.engine.runners import open_runner

    pixels = np.random.default_rng(0).normal(size=(2, 3, IMAGE_SIZE, IMAGE_SIZE)).astype("f")
    with torch.no_grad():
        wanted = exported.model.vision_model(
            torch.from_numpy(pixels), interpolate_pos_encoding=True
        ).last_hidden_state.numpy()
    found = open_runner(open_model(exported.folder), "vision").run({"pixel_values": pixels})[
        "image_embeds"
    ]
    assert validate.relative_error(found, wanted) < thresholds.SALIENCE


def test_note_names_only_what_was_not_chosen(exported: Exported, tmp_path: Path):
    said: list[str] = []
    export(str(exported.checkpoint), tmp_path / "m", image_size=64, layer=(1,), say=said.append)
    (note,) = [line for line in said if line.startswith("note:")]
    assert "took --head 3; the best layer and head of this model are not known" in note


def test_tokenizer_that_cannot_write_the_prompt_is_refused(exported: Exported, tmp_path: Path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\n")
    with pytest.raises(ModelError, match="the prompt 'A picture of' cannot be written"):
        export(str(exported.checkpoint), tmp_path / "m", image_size=64, tokenizer=vocabulary)


def test_weights_stored_as_float16_halve_the_folder(exported: Exported, exported_in_float16: Path):
    manifest = open_model(exported_in_float16).manifest
    whole = open_model(exported.folder).manifest
    assert (manifest.weights, whole.weights, manifest.dtype) == ("float16", "float32", "float32")
    for name in ("onnx/vision.onnx_data", "onnx/salience.onnx_data"):
        assert manifest.files[name].size == pytest.approx(whole.files[name].size / 2, rel=0.02)
    stored = onnx.load(exported_in_float16 / "onnx" / "salience.onnx").graph.initializer
    assert {t.data_type for t in stored if len(t.dims) == 2} == {onnx.TensorProto.FLOAT16}
    assert manifest.export_error["salience.salience"] < thresholds.SALIENCE

    maps = []
    for folder in (exported_in_float16, exported.folder):
        with Segmenter.load(folder, device="cpu") as segmenter:
            image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
            result = segmenter.segment(
                image, ["cat", "sofa"], settings=Settings(crf=None, passes=1)
            )
            maps.append(result.class_maps)
    error = validate.relative_error(*maps)
    assert 0 < error < thresholds.FLOAT16_WEIGHTS


def test_a_weight_too_large_for_float16(exported: Exported, tmp_path: Path):
    checkpoint = Path(shutil.copytree(exported.checkpoint, tmp_path / "checkpoint"))
    (file,) = checkpoint.glob("*.safetensors")
    weights = safetensors.numpy.load_file(file)
    weights["itm_head.weight"] = weights["itm_head.weight"] * 0 + 1e5
    safetensors.numpy.save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"itm_head.weight has values beyond 65504"):
        export(str(checkpoint), tmp_path / "half", image_size=IMAGE_SIZE, weights="float16")
    assert not (tmp_path / "half").exists()


def test_weights_of_another_kind(exported: Exported, tmp_path: Path):
    wrong: Any = "bfloat16"
    with pytest.raises(ModelError, match="weights is 'bfloat16'"):
        export(str(exported.checkpoint), tmp_path / "m", weights=wrong)
