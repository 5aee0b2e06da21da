"""Training the demo model from what is in whole pictures: no mask enters any loss.

Small pictures first, at the scale of the large ones, until matching has taken off; then large ones,
each shown as four disjoint quarters of its patches, which costs less than showing it whole and
makes every part of a thing count; then whole pictures, some of their patches blanked as Salience
DropOut does. The last two stages do so once more, in halves and whole, with hard negatives.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import BlipForImageTextRetrieval

from pnp_ovss.engine.evaluation.datasets.stickers.classes import CLASSES
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import SIDE, scene
from pnp_ovss.engine.inputs.images import model_input
from pnp_ovss.engine.model.manifest import Preprocess
from pnp_ovss.export.models.blip.checkpoint import MEAN, STD

from . import captions
from .model import (
    TEXT,
    VISION,
    WordPatchLogits,
    captioner,
    encode_image,
    match_logits,
    new_blip,
    tokenizer,
)

SEED = 1
BATCH = 32
WEIGHT_DECAY = 0.05
AVERAGE = 0.999  # of the weights, from step to step: what is shipped
CONTEXT = 0.25  # of the pictures
SHARPNESS = 3  # of the pooling of patches: 0 would be the mean, infinity the maximum
LOG_EVERY, SAVE_EVERY = 20, 200
CHECKPOINT_FILE, LOG_FILE = "checkpoint.pt", "log.jsonl"


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        steps: of the optimizer.
        side: of the pictures, in pixels.
        most: classes in a picture at most.
        parts: a picture is shown as so many disjoint sets of patches, each with its own captions.
        blanked: up to this part of the patches is blanked.
        naming: weight of the multi-label loss beside image-text matching.
        rates: learning rate at its beginning and at its end, linear in between.
        warm_up: steps over which the learning rate first rises.
        hard: false captions name what the multi-label loss takes to be there, more often the surer
            it is (hard negatives, as ALBEF and BLIP choose them); else any class as often.
    """

    steps: int
    side: int
    most: int
    parts: int
    blanked: float
    naming: float
    rates: tuple[float, float]
    warm_up: int = 1
    hard: bool = False

    @property
    def pictures(self) -> int:
        """Scenes a step."""
        return BATCH // self.parts


STAGES = (
    Stage(800, SIDE // 2, 2, 1, 0, naming=10, rates=(8e-4, 6.476e-4), warm_up=200),
    Stage(3000, SIDE, 5, 4, 0, naming=5, rates=(6.476e-4, 7.62e-5)),
    Stage(400, SIDE, 5, 1, 0.75, naming=5, rates=(7.62e-5, 0)),
    Stage(1000, SIDE, 5, 2, 0, naming=5, rates=(4e-4, 1e-4), warm_up=50, hard=True),
    Stage(400, SIDE, 5, 1, 0.75, naming=5, rates=(1e-4, 0), hard=True),
)
STEPS = sum(stage.steps for stage in STAGES)


class Batches(Dataset[dict[str, torch.Tensor]]):
    """The batch of each step: pictures [N, 3, S, S], and the classes in each [N, C]."""

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        stage, _ = stage_at(step)
        square = Preprocess((stage.side, stage.side), VISION["patch_size"], MEAN, STD)
        pixels, names = [], []
        for number in range(stage.pictures):
            index = step * BATCH + number
            kind = (
                "context" if np.random.default_rng([SEED, index]).random() < CONTEXT else "stickers"
            )
            picture = scene(kind, SEED, index, (stage.side, stage.side), stage.most)
            pixels.append(model_input(picture.image, square))
            names.append([name in picture.classes for name in CLASSES])
        return {"pixels": torch.from_numpy(np.stack(pixels)), "names": torch.tensor(names)}


def fingerprint() -> str:
    """Describe all that decides what a training comes to, beside the code."""
    numbers = (SEED, BATCH, WEIGHT_DECAY, AVERAGE, CONTEXT, SHARPNESS)
    return repr((numbers, STAGES, VISION, TEXT, CLASSES))


def stage_at(step: int) -> tuple[Stage, int]:
    """The stage that a step belongs to, and its number within the stage."""
    for stage in STAGES:
        if step < stage.steps:
            return stage, step
        step -= stage.steps
    raise IndexError(step)


def learning_rate(step: int) -> float:
    """Learning rate of a step of the optimizer."""
    stage, number = stage_at(step)
    first, last = stage.rates
    rate = first + (last - first) * number / stage.steps
    return rate * min(1, (number + 1) / stage.warm_up)


class Training(nn.Module):
    """The model, what is thrown away after training, and the optimizer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(SEED)
        words = tokenizer()
        self.captioner = captioner(words)
        self.blip = new_blip(words)
        self.naming = WordPatchLogits(self.blip, words)
        decayed = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": WEIGHT_DECAY},
                {"params": others, "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )
        self.average = {name: value.clone() for name, value in self.blip.state_dict().items()}

    def step(self, number: int, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step of the optimizer; what there is to log of it."""
        stage, _ = stage_at(number)
        torch.manual_seed(SEED + number)
        embeds = self._embeds(stage, batch["pixels"])
        names = batch["names"].repeat_interleave(stage.parts, dim=0)
        words = self.blip.text_encoder.embeddings.word_embeddings.weight
        named = pool(self.naming(words, embeds[:, 1:]))
        naming = nn.functional.binary_cross_entropy_with_logits(named, names.float())
        ids, mask, true = self._captions(number, names, named.detach() if stage.hard else None)
        logits = match_logits(self.blip, embeds, ids, mask)
        matching = nn.functional.cross_entropy(logits.flatten(0, 1), true.flatten())
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(number)
        self.optimizer.zero_grad()
        (matching + stage.naming * naming).backward()
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimizer.step()
        for name, value in self.blip.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - min(AVERAGE, (number + 1) / (number + 10)))
        right = (logits.argmax(-1) == true).float().mean()
        return {"matching": matching.item(), "right": right.item(), "naming": naming.item()}

    def _captions(
        self, number: int, names: torch.Tensor, mistaken: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Captions of each part of a picture: ids and mask [B, 4, T], true [B, 4].

        Args:
            number: of the step.
            names: the classes that are there, bool [B, C].
            mistaken: how likely each class seems to be there, logits [B, C], for hard negatives.
        """
        rng = np.random.default_rng([SEED, number])
        odds = torch.ones(names.shape) if mistaken is None else mistaken.exp()
        told = [
            caption
            for there, own in zip(names.numpy(), odds.double().numpy(), strict=True)
            for caption in captions.sample(rng, there, own)
        ]
        written = [caption for classes, _ in told for caption in self.captioner.write(classes)]
        shape = (len(names), captions.PER_PICTURE, -1)
        ids, mask = (torch.from_numpy(array).view(shape) for array in self.captioner.pad(written))
        return (
            ids,
            mask,
            torch.tensor([true for _, true in told], dtype=torch.int64).view(shape[:2]),
        )

    def _embeds(self, stage: Stage, pixels: torch.Tensor) -> torch.Tensor:
        patch = VISION["patch_size"]
        grid, whole = stage.side // patch, SIDE // patch
        row, column = torch.randint(whole - grid + 1, (2,)).tolist()
        order = torch.rand(len(pixels), grid * grid).argsort(dim=1)
        if stage.parts > 1:
            kept = order.unflatten(1, (stage.parts, -1)).flatten(0, 1)
            pixels = pixels.repeat_interleave(stage.parts, dim=0)
            return encode_image(self.blip, pixels, kept, (row, column))
        share = torch.rand(len(pixels), 1) * stage.blanked
        seen = (order >= share * grid * grid).float().unflatten(1, (1, grid, grid))
        pixels = pixels * nn.functional.interpolate(seen, scale_factor=patch)
        return encode_image(self.blip, pixels, None, (row, column))

    def save(self, file: Path, step: int, seconds: float) -> None:
        """Write a checkpoint, all or nothing."""
        state = {
            "recipe": fingerprint(),
            "model": self.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "step": step,
            "seconds": seconds,
        }
        torch.save(state, part := file.with_suffix(".part"))
        os.replace(part, file)

    def restore(self, file: Path) -> tuple[int, float]:
        """Read a checkpoint; the step to go on with, and the seconds spent before.

        Raises:
            click.ClickException: it is of another recipe.
        """
        state = torch.load(file, weights_only=True)
        if state["recipe"] != fingerprint():
            raise click.ClickException(
                f"'{file}' is of another recipe: remove it, or give another --folder"
            )
        self.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        return state["step"], state["seconds"]


def pool(logits: torch.Tensor) -> torch.Tensor:
    """Patch logits [B, P, C] to picture logits [B, C]: a soft maximum."""
    count = torch.tensor(logits.shape[1])
    return (torch.logsumexp(SHARPNESS * logits, dim=1) - count.log()) / SHARPNESS


def train(folder: Path) -> BlipForImageTextRetrieval:
    """Train, or go on with a training that was interrupted.

    Args:
        folder: where checkpoint and log are kept.

    Returns:
        The model with its averaged weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, log = folder / CHECKPOINT_FILE, folder / LOG_FILE
    training = Training()
    first, spent = training.restore(checkpoint) if checkpoint.exists() else (0, 0.0)
    began = time.monotonic() - spent
    _cut(log, first)
    batches = DataLoader(
        Batches(), batch_size=None, sampler=range(first, STEPS), num_workers=1, prefetch_factor=4
    )
    recent: list[dict[str, float]] = []
    with click.progressbar(batches, length=STEPS - first, label="training") as bar:
        for number, batch in enumerate(bar, first):
            recent.append(training.step(number, batch))
            done, seconds = number + 1, time.monotonic() - began
            if done % LOG_EVERY == 0:
                means = {key: float(np.mean([one[key] for one in recent])) for key in recent[0]}
                with log.open("ab") as file:
                    line = {"step": done, "seconds": round(seconds), **means}
                    file.write(msgspec.json.encode(line) + b"\n")
                recent = []
            if done % SAVE_EVERY == 0 or done == STEPS:
                training.save(checkpoint, done, seconds)
    training.blip.load_state_dict(training.average)
    return training.blip.eval()


def _cut(log: Path, step: int) -> None:
    """Drop what was logged after a checkpoint, as those steps come again."""
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    kept = [line for line in lines if line.endswith(b"\n") and _step(line) <= step]
    part = log.with_suffix(".part")
    part.write_bytes(b"".join(kept))
    os.replace(part, log)


def _step(line: bytes) -> int:
    return msgspec.json.decode(line)["step"]
