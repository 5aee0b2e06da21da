from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import torch

from benchmarks.demo_model import captions, train
from benchmarks.demo_model.model import captioner, encode_image, new_blip, tokenizer
from pnp_ovss.engine.evaluation.datasets.stickers.classes import CLASSES
from pnp_ovss.engine.inputs.text import Captioner
from pnp_ovss.engine.model.folder import open_model

STAGES = (
    train.Stage(2, side=64, most=1, parts=1, blanked=0, naming=10, rates=(1e-3, 5e-4), warm_up=2),
    train.Stage(2, side=128, most=2, parts=4, blanked=0, naming=5, rates=(5e-4, 2e-4)),
    train.Stage(2, 128, most=2, parts=1, blanked=0.75, naming=5, rates=(2e-4, 0), hard=True),
)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "STAGES", STAGES)
    monkeypatch.setattr(train, "STEPS", 6)
    monkeypatch.setattr(train, "BATCH", 4)
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    monkeypatch.setattr(train, "SAVE_EVERY", 3)


@pytest.mark.usefixtures("short")
def test_training_that_is_interrupted_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = train.train(tmp_path / "whole").state_dict()

    step = train.Training.step

    def stop(self, number, batch):
        if number == 4:
            raise KeyboardInterrupt
        return step(self, number, batch)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(train.Training, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            train.train(tmp_path / "parts")
    resumed = train.train(tmp_path / "parts").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    with monkeypatch.context() as changed:
        changed.setattr(train, "CONTEXT", 0.5)
        with pytest.raises(click.ClickException, match="another recipe"):
            train.train(tmp_path / "parts")

    lines = [json.loads(line) for line in (tmp_path / "parts" / train.LOG_FILE).open()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert set(lines[0]) == {"step", "seconds", "matching", "right", "naming"}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("step", [0, 2, 4])
def test_training_is_told_captions_and_names_and_nothing_of_where(step: int):
    stage, _ = train.stage_at(step)
    batch = train.Batches()[step]
    assert batch.keys() == {"pixels", "names"}
    assert batch["pixels"].shape == (stage.images, 3, stage.side, stage.side)
    assert batch["names"].shape == (stage.images, len(CLASSES))


@pytest.mark.parametrize("mistaken", [None, torch.zeros(3, len(CLASSES))])
def test_captions_are_written_and_told_true_from_false(mistaken: torch.Tensor | None):
    training = train.Training()
    names = torch.zeros(3, len(CLASSES), dtype=torch.bool)
    names[:, CLASSES.index("hot dog")] = True
    ids, mask, true = training._captions(7, names, mistaken)
    assert ids.shape == mask.shape
    assert ids.shape[:2] == true.shape == (3, captions.PER_IMAGE)
    (written,) = training.captioner.write(["hot dog"])
    for row, own, is_true in zip(
        ids.flatten(0, 1), mask.flatten(0, 1), true.flatten(), strict=True
    ):
        assert (row[own.bool()].tolist() == written.ids) == is_true


def test_parts_of_an_image_are_disjoint_and_whole_together(monkeypatch: pytest.MonkeyPatch):
    training = train.Training()
    seen = []

    def spy(_blip, pixels, patch_indices, _corner):
        seen.append(patch_indices)
        return torch.zeros(len(pixels), 1 + patch_indices.shape[1], 192)

    monkeypatch.setattr(train, "encode_image", spy)
    training._embeds(train.STAGES[1], torch.zeros(2, 3, 256, 256))
    (patch_indices,) = seen
    assert patch_indices.shape == (8, 64)
    for image in patch_indices.view(2, -1):
        assert sorted(image.tolist()) == list(range(256))


def test_a_whole_image_is_encoded_as_transformers_does():
    torch.manual_seed(0)
    blip = new_blip(tokenizer()).eval()
    pixels = torch.randn(2, 3, 256, 256)
    with torch.no_grad():
        wanted = blip.vision_model(pixels).last_hidden_state
        torch.testing.assert_close(encode_image(blip, pixels), wanted)


def test_captions_are_written_as_the_engine_writes_them():
    model = open_model("demo")
    classes = ["hot dog", "strawberry"]
    assert captioner(tokenizer()).write(classes) == Captioner.load(model).write(classes)


def test_the_learning_rate_rises_falls_and_ends_at_nothing():
    rates = [train.learning_rate(step) for step in range(train.STEPS)]
    first = train.STAGES[0]
    assert rates[0] < rates[first.warm_up // 2] < rates[first.warm_up]
    assert rates[-1] < 1e-6
    assert max(rates) <= first.rates[0]
    with pytest.raises(IndexError):
        train.learning_rate(train.STEPS)


def test_pooling_lies_between_mean_and_maximum():
    logits = torch.randn(2, 7, 5)
    pooled = train.pool(logits)
    assert (pooled <= logits.amax(dim=1) + 1e-6).all()
    assert (pooled >= logits.mean(dim=1) - 1e-6).all()


def test_the_model_is_small():
    parameters = sum(parameter.numel() for parameter in new_blip(tokenizer()).parameters())
    assert 3.5e6 < parameters < 4.5e6
