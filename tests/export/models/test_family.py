"""A family of checkpoints needs its own module and a line in the registry, and nothing else.

The toy is a bag of words over color histograms: an image encoder that is one product with a
non-square grid of patches, a matching branch that attends once, in closed form, and a byte-level
tokenizer. What it knows of itself is all here; the exporter, the validation, the backends and the
method are as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn

from pnp_ovss.engine import ExecutionError, ModelError, Segmenter, Settings
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.model.manifest import Preprocess, Text
from pnp_ovss.export import export
from pnp_ovss.export.graphs.builder import Graph
from pnp_ovss.export.models import registry
from pnp_ovss.export.models.base import Checkpoint, CheckpointFiles, Choice, FamilyGraph, Trial

PATCH, WIDTH, HEADS, CONTEXT = 16, 8, 2, 48
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("c", "a"), ("ca", "t"), ("Ġ", "cat"), ("d", "o"), ("do", "g"), ("Ġ", "dog")]
PIECES = ["<s>", "</s>", "<pad>", *LETTERS, *(left + right for left, right in MERGES)]
IDS = {piece: index for index, piece in enumerate(PIECES)}


class Toy(nn.Module):
    """Patches and words in one space; the match is how alike they are."""

    def __init__(self) -> None:
        super().__init__()
        self.sides: tuple[int, int] = (64, 64)
        self.patch = nn.Parameter(torch.randn(3 * PATCH * PATCH, WIDTH) / PATCH)
        self.word = nn.Parameter(torch.randn(len(IDS), WIDTH))
        self.itm = nn.Parameter(torch.randn(WIDTH, 2))

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, 1 + P, D], the mean of all patches first."""
        rows, columns = self.sides[0] // PATCH, self.sides[1] // PATCH
        tiles = pixels.reshape(-1, 3, rows, PATCH, columns, PATCH).permute(0, 2, 4, 1, 3, 5)
        patches = tiles.flatten(3).flatten(1, 2) @ self.patch
        return torch.cat([patches.mean(1, keepdim=True), patches], 1)


class Family:
    """What the exporter asks of a family."""

    name = "toy"
    method = "pnp-ovss"
    spoil = 1.0  # a factor on what the graph gives, to show that the validation looks

    def recognises(self, files: CheckpointFiles) -> bool:
        return files.config.get("model_type") == "toy"

    def load(self, files: CheckpointFiles, tokenizer: Path | None) -> Checkpoint:
        model = Toy()
        model.load_state_dict(torch.load(files.path / "toy.pt", weights_only=True))
        words = Tokenizer.from_file(str(tokenizer or files.path / "tokenizer.json"))
        return Checkpoint(model.eval(), words, ["it is a toy"])

    def resize(self, model: Toy, sides: tuple[int, int]) -> None:
        model.sides = (sides[0], 2 * sides[1])  # a family may take what is not square

    def preprocess(self, model: Toy) -> Preprocess:
        return Preprocess(model.sides, PATCH, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    def text(self, checkpoint: Checkpoint) -> Text:
        return Text("byte-bpe", "A picture of", " ", False, 0, 1, 2, None, CONTEXT)

    def cross_attention(self, model: Toy) -> tuple[int, int]:
        return 2, HEADS

    def known_best(self, model: Toy) -> Choice:
        return Choice((0,), (1,), known=True)

    def graphs(self, model: Toy, choice: Choice) -> dict[str, FamilyGraph]:
        return {
            "vision": FamilyGraph(vision_graph(model), {"batch": "rows"}),
            "salience": FamilyGraph(
                salience_graph(model, self.spoil),
                {"batch": "rows", "images": "shared", "tokens": "padded"},
                lengths={"tokens": [8, CONTEXT]},
                limits={"tokens": CONTEXT},
                gradient=True,
            ),
        }

    def trials(self, model: Toy, random: np.random.Generator) -> Iterator[Trial]:
        pixels = random.normal(size=(2, 3, *model.sides)).astype(np.float32)
        yield Trial("vision", {"pixel_values": pixels})
        embeds = self._embeds(model, pixels)
        ids = random.integers(3, len(IDS), (2, 7))
        keep = (random.random((2, embeds.shape[1] - 1)) < 0.5).astype(np.float32)
        feeds = {"image_embeds": embeds, "input_ids": ids}
        yield Trial("salience", feeds | {"attention_mask": np.ones_like(ids), "patch_keep": keep})

    def reference(self, model: Toy, choice: Choice, trial: Trial) -> dict[str, np.ndarray]:
        feeds = trial.feeds
        if trial.graph == "vision":
            return {"image_embeds": self._embeds(model, feeds["pixel_values"])}
        with torch.no_grad():
            image, keep, mask = (
                torch.from_numpy(feeds[name]).to(model.word.dtype)
                for name in ("image_embeds", "patch_keep", "attention_mask")
            )
            words = model.word[torch.from_numpy(feeds["input_ids"])] * mask[..., None]
            salience = (words @ image[:, 1:].mT).relu() * keep[:, None]
            return {
                "itm_logits": (words.sum(1) @ model.itm).numpy(),
                "salience": salience.numpy(),
            }

    def _embeds(self, model: Toy, pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.embed(torch.from_numpy(pixels).to(model.patch.dtype)).numpy()


def vision_graph(model: Toy) -> ir.Model:
    graph = Graph(model)
    (height, width), patches = model.sides, model.sides[0] * model.sides[1] // PATCH**2
    pixels = graph.input("pixel_values", ir.DataType.FLOAT, ["batch", 3, height, width])
    shape = graph.ints(-1, 3, height // PATCH, PATCH, width // PATCH, PATCH)
    tiles = graph.Transpose(graph.Reshape(pixels, shape), perm=[0, 2, 4, 1, 3, 5])
    rows = graph.Reshape(tiles, graph.ints(-1, patches, 3 * PATCH**2))
    embeds = graph.MatMul(rows, graph.weight(model.patch))
    first = graph.ReduceMean(embeds, graph.ints(1), keepdims=1)
    out = graph.Concat(first, embeds, axis=1)
    return graph.finish([pixels], {"image_embeds": (out, ["batch", 1 + patches, WIDTH])})


def salience_graph(model: Toy, spoil: float) -> ir.Model:
    graph = Graph(model)
    patches = model.sides[0] * model.sides[1] // PATCH**2
    image = graph.input("image_embeds", ir.DataType.FLOAT, ["images", 1 + patches, WIDTH])
    ids = graph.input("input_ids", ir.DataType.INT64, ["batch", "tokens"])
    mask = graph.input("attention_mask", ir.DataType.INT64, ["batch", "tokens"])
    keep = graph.input("patch_keep", ir.DataType.FLOAT, ["images", patches])
    words = graph.Mul(
        graph.Gather(graph.weight(model.word), ids, axis=0),
        graph.Unsqueeze(graph.Cast(mask, to=ir.DataType.FLOAT), graph.ints(2)),
    )
    own = graph.Slice(image, *map(graph.ints, (1, 2**31 - 1, 1)))
    scores = graph.MatMul(words, graph.Transpose(own, perm=[0, 2, 1]))
    salience = graph.Mul(graph.Relu(scores), graph.Unsqueeze(keep, graph.ints(1)))
    total = graph.ReduceSum(words, graph.ints(1), keepdims=0)
    logits = graph.MatMul(total, graph.weight(model.itm))
    return graph.finish(
        [image, ids, mask, keep],
        {
            "itm_logits": (logits, ["batch", 2]),
            "salience": (
                graph.Mul(salience, graph.scalar(spoil)),
                ["batch", "tokens", patches],
            ),
        },
    )


def byte_level() -> Tokenizer:
    """A tokenizer as RoBERTa's: it gives "cat" another id alone than in a sentence."""
    tokenizer = Tokenizer(models.BPE(IDS, MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "toy"}))
    torch.manual_seed(0)
    torch.save(Toy().state_dict(), folder / "toy.pt")
    byte_level().save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Family:
    toy = Family()
    monkeypatch.setattr(registry, "FAMILIES", [*registry.FAMILIES, toy])
    return toy


def test_a_family_is_exported_and_segments(family: Family, checkpoint: Path, tmp_path: Path):
    said: list[str] = []
    manifest = export(str(checkpoint), tmp_path / "model", image_size=64, say=said.append)
    assert "note: it is a toy" in said
    assert (manifest.family, manifest.method, manifest.layer_known) == ("toy", "pnp-ovss", True)
    assert manifest.preprocess.grid == (4, 8)
    assert set(manifest.export_error) == {
        "vision.image_embeds",
        "salience.itm_logits",
        "salience.salience",
    }
    assert list(open_model(tmp_path / "model").manifest.graphs) == ["vision", "salience"]
    image = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    for mode in ("pixels", "attention"):
        settings = Settings(drop_mode=mode, crf=None)  # type: ignore[arg-type]
        with Segmenter.load(tmp_path / "model", device="cpu") as segmenter:
            result = segmenter.segment(Image.fromarray(image), ["cat", "dog"], settings=settings)
        assert result.class_maps.shape == (2, 4, 8)
        assert result.labels.any()
    with (
        Segmenter.load(tmp_path / "model", device="cpu") as segmenter,
        pytest.raises(ModelError, match="has no graph 'vision_tokens'"),
    ):
        segmenter.segment(image, ["cat"], settings=Settings(drop_mode="tokens"))


def test_its_names_have_the_ids_that_they_have_in_a_sentence(
    family: Family, checkpoint: Path, tmp_path: Path
):
    export(str(checkpoint), tmp_path / "model", image_size=64)
    tokenizer = byte_level()
    alone, inside = (tokenizer.encode(text).ids for text in ("cat", " cat"))
    assert (len(alone), len(inside)) == (1, 1)
    assert alone != inside
    with Segmenter.load(tmp_path / "model", device="cpu") as segmenter:
        method: Any = segmenter.method
        (caption,) = method.graphs.captioner.write(["cat", "Dog house", "cat-dog"])
    sentence = tokenizer.encode("A picture of cat Dog house cat-dog").ids
    assert caption.ids == [0, *sentence, 1]
    assert [caption.ids[token] for token in caption.owners[0][1]] == inside


def test_the_validation_holds_it_to_its_reference(family: Family, checkpoint: Path, tmp_path: Path):
    family.spoil = 1.01
    with pytest.raises(ExecutionError, match=r"the exported salience\.salience is off"):
        export(str(checkpoint), tmp_path / "model", image_size=64)
    assert not (tmp_path / "model").exists()


def test_what_is_of_no_family_names_those_that_there_are(checkpoint: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="holds a 'toy' model") as caught:
        export(str(checkpoint), tmp_path / "model", image_size=64)
    assert caught.value.cure == "families that can be exported: blip"


def test_what_the_family_does_not_compare_is_not_exported(
    family: Family, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trials = family.trials
    monkeypatch.setattr(family, "trials", lambda *given: [next(trials(*given))])
    with pytest.raises(ExecutionError, match=r"salience\.itm_logits was not compared"):
        export(str(checkpoint), tmp_path / "model", image_size=64)
    assert not (tmp_path / "model").exists()
