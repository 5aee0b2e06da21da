from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from transformers import BlipConfig, BlipForImageTextRetrieval

from benchmarks.harness import random_models
from pnp_ovss.engine import ModelError
from pnp_ovss.export.models import blip
from pnp_ovss.export.models.base import Checkpoint, Choice
from pnp_ovss.export.models.registry import family_of
from pnp_ovss.export.models.source import find_checkpoint
from tests.conftest import TEXT, VISION, Exported


@pytest.fixture
def checkpoint(exported: Exported, tmp_path: Path) -> Path:
    """A checkpoint that the test may damage."""
    return Path(shutil.copytree(exported.checkpoint, tmp_path / "checkpoint"))


def load(checkpoint: str, revision: str | None = None) -> Checkpoint:
    files, _ = find_checkpoint(checkpoint, revision)
    assert family_of(files) is blip
    return blip.load(files, None)


def change_config(checkpoint: Path, **changes) -> None:
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, name = key.rpartition("__")
        (config[part] if part else config)[name] = value
    path.write_text(json.dumps(config))


def unfilled(vision: Mapping[str, Any], text: Mapping[str, Any]) -> BlipForImageTextRetrieval:
    """A model of a shape, without memory for its weights."""
    with torch.device("meta"):
        config = BlipConfig(vision_config=dict(vision), text_config=dict(text))
        return BlipForImageTextRetrieval(config)


def test_the_best_layer_and_head_are_known_for_blip_large_alone():
    large, base = random_models.BLIP_LARGE, random_models.BLIP_BASE
    assert blip.known_best(unfilled(large["vision"], large["text"])) == Choice(
        (7,), (9,), known=True
    )
    assert blip.known_best(unfilled(base["vision"], base["text"])) == Choice(
        (7,), (9,), known=False
    )
    narrow = {"hidden_size": 24, "num_attention_heads": 12}
    assert blip.known_best(unfilled(VISION, narrow)) == Choice((7,), (9,), known=False)
    assert blip.known_best(unfilled(large["vision"], narrow)) == Choice((7,), (9,), known=False)


@pytest.mark.parametrize("layers", range(2, 14))
def test_elsewhere_the_same_relative_place_is_taken_but_for_the_last_layer(layers: int):
    model = unfilled(VISION, {**TEXT, "num_hidden_layers": layers})
    assert blip.known_best(model) == Choice((min(7 * layers // 12, layers - 2),), (3,), known=False)


def test_tokenizer_is_berts_where_the_checkpoint_has_none(checkpoint: Path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (checkpoint / name).unlink()
    loaded = load(str(checkpoint))
    assert loaded.tokenizer.encode("potted plant").tokens == ["pot", "##ted", "plant"]
    assert any("BERT" in note for note in loaded.notes)


def test_tokenizer_is_read_from_vocab_txt(checkpoint: Path, tokenizer):
    (checkpoint / "tokenizer.json").unlink()
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    (checkpoint / "vocab.txt").write_text("\n".join([*words, "[DEC]", "[ENC]"]) + "\n")
    loaded = load(str(checkpoint))
    assert loaded.notes == []
    assert blip.text(loaded).first_id == 30523


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "clip"}, "holds a 'clip' model"),
        ({"text_config__hidden_act": "relu"}, "activation is 'relu'"),
        ({"text_config__vocab_size": 30522}, "cannot be loaded|lacks .* weights"),
        ({"text_config__is_decoder": False}, "no cross-attention"),
    ],
)
def test_unfit_configurations_are_refused(checkpoint: Path, changes, message: str):
    change_config(checkpoint, **changes)
    with pytest.raises(ModelError, match=message):
        load(str(checkpoint))


def test_missing_weights_are_refused_not_made_up(checkpoint: Path):
    path = checkpoint / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    del weights["itm_head.weight"]
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights.*itm_head\.weight"):
        load(str(checkpoint))


def test_truncated_weights_are_refused(checkpoint: Path):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(str(checkpoint))


def test_vocabulary_too_small_for_enc_is_refused(tmp_path: Path, tokenizer):
    random_models.save_checkpoint(
        random_models.random_blip(VISION, {**TEXT, "vocab_size": 30522}), tokenizer, tmp_path
    )
    loaded = load(str(tmp_path))
    with pytest.raises(ModelError, match=r"\[ENC\] would have id 30523"):
        blip.text(loaded)


def test_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path: Path, tokenizer):
    random_models.save_checkpoint(
        random_models.random_blip(VISION, {**TEXT, "vocab_size": 1000}), tokenizer, tmp_path
    )
    with pytest.raises(ModelError, match="ids up to 30521"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["nowhere", "./no/such/folder", "a/b/c"])
def test_what_is_neither_file_nor_hub_id_is_named(name: str):
    with pytest.raises(ModelError, match="no such file or folder"):
        load(name)


def test_hub_id_without_network_says_so(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="cannot fetch 'Salesforce/blip-itm-base-coco'"):
        load("Salesforce/blip-itm-base-coco")


def test_revision_of_what_is_no_hub_id_is_refused(exported: Exported):
    with pytest.raises(ModelError, match="only a hub id has revisions"):
        load(str(exported.checkpoint), revision="main")
