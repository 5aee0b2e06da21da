from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BlipForImageTextRetrieval

from benchmarks.harness.random_models import random_blip
from pnp_ovss.engine import ModelError
from pnp_ovss.export import export
from pnp_ovss.export.models import blip
from pnp_ovss.export.models.registry import family_of
from pnp_ovss.export.models.source import find_checkpoint

TO_ORIGINAL = (
    ("vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
    ("vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
    ("vision_model.embeddings.patch_embedding", "visual_encoder.patch_embed.proj"),
    ("vision_model.post_layernorm", "visual_encoder.norm"),
    ("vision_model.encoder.layers", "visual_encoder.blocks"),
    ("self_attn.projection", "attn.proj"),
    ("self_attn", "attn"),
    ("layer_norm", "norm"),
)
SHAPE = (
    {"hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 2, "image_size": 64},
    {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3},
)


def original_weights(model) -> dict[str, torch.Tensor]:
    """The state of a model under the keys of BLIP's own code, with what it keeps for training."""
    weights = {}
    for key, value in model.state_dict().items():
        for new, old in TO_ORIGINAL:
            key = key.replace(new, old)
        weights[key] = value
        if key.startswith(("visual_encoder", "text_encoder", "vision_proj", "text_proj")):
            part, _, rest = key.partition(".")
            weights[f"{part}_m.{rest}"] = value
    positions = model.config.text_config.max_position_embeddings
    return weights | {
        "text_encoder.embeddings.position_ids": torch.arange(positions)[None],
        "temp": torch.tensor(0.07),
        "image_queue": torch.zeros(4, 8),
        "text_queue": torch.zeros(4, 8),
        "idx_queue": torch.zeros(1, 8),
        "ptr_queue": torch.zeros(1, dtype=torch.long),
    }


@pytest.fixture(scope="module")
def original():
    # heads are 64 wide in every BLIP, and its vision LayerNorm has an epsilon of its own
    vision = {**SHAPE[0], "num_attention_heads": 2, "layer_norm_eps": 1e-6}
    return random_blip(vision, {**SHAPE[1], "num_attention_heads": 1})


def load(path: Path) -> BlipForImageTextRetrieval:
    files, _ = find_checkpoint(str(path))
    assert family_of(files) is blip
    return blip.load(files, None).model


def save(weights: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save({"model": weights, "epoch": 5}, path)
    return path


def test_original_checkpoint_computes_what_the_model_does(original, tmp_path: Path):
    path = save(original_weights(original), tmp_path / "model_large_retrieval_flickr.pth")
    loaded = load(path)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[30523, 5, 6, 102], [30523, 7, 8, 102]])
    with torch.no_grad():
        wanted = original(input_ids=ids, pixel_values=pixels).itm_score
        found = loaded(input_ids=ids, pixel_values=pixels).itm_score
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_original_checkpoint_exports(original, tmp_path: Path):
    path = save(original_weights(original), tmp_path / "model_base_retrieval_coco.pth")
    manifest = export(str(path), tmp_path / "model", image_size=64)
    assert manifest.checkpoint.source == path.name
    assert manifest.text.first_id == 30523


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update(surprise=torch.zeros(1)), "1 keys .* among them 'surprise'"),
        (lambda w: w.pop("itm_head.bias"), "itm_head.bias"),
        (lambda w: w.pop("visual_encoder.pos_embed"), "position_embedding"),
        (lambda w: w.update({"itm_head.bias": torch.zeros(3)}), "Error.* in loading state_dict"),
    ],
)
def test_every_key_is_accounted_for(original, tmp_path: Path, change, message: str):
    weights = original_weights(original)
    change(weights)
    with pytest.raises(ModelError, match=message):
        load(save(weights, tmp_path / "model.pth"))


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path):
    class Malicious:
        def __reduce__(self):
            return Path.touch, (tmp_path / "owned",)

    torch.save({"model": Malicious()}, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path / "model.pth")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {}},
        {"model": {}},
        {"model": {0: torch.zeros(1)}},
        {"model": {"weight": "none"}},
        [torch.zeros(1)],
    ],
    ids=str,
)
def test_files_without_weights_are_refused(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="holds no weights"):
        load(tmp_path / "model.pth")


def test_weights_may_be_bare(original, tmp_path: Path):
    torch.save(original_weights(original), tmp_path / "model.pth")
    assert len(load(tmp_path / "model.pth").text_encoder.encoder.layer) == 3


def test_weights_of_another_family_are_none_of_blip(tmp_path: Path):
    """ALBEF's image encoder has the same names; its text encoder is below `bert`, or fuses late."""
    for key in ("text_encoder.bert.encoder.layer.6.crossattention.self.query.weight", "other"):
        weights = {"visual_encoder.cls_token": torch.zeros(1), key: torch.zeros(1)}
        files, _ = find_checkpoint(str(save(weights, tmp_path / "albef.pth")))
        with pytest.raises(ModelError, match="has weights of no known model") as caught:
            family_of(files)
        assert "blip" in caught.value.cure


def test_checkpoint_in_pytorchs_old_format_is_read(original, tmp_path: Path):
    path = tmp_path / "model.pth"
    torch.save({"model": original_weights(original)}, path, _use_new_zipfile_serialization=False)
    assert len(load(path).text_encoder.encoder.layer) == 3
