"""Trains the demo model from the class names of whole images: no mask enters any loss.

The first stage shows small images, with stickers of the same scale as in large ones, until matching
leaves chance. The second shows large images, each as four disjoint quarters of its patches: this
costs less than whole images, and makes the model attend to every part of an object. The third shows
whole images with some patches blanked, as Salience DropOut does. The last two stages do the same in
halves and whole, with hard negatives.
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
AVERAGE = 0.999  # decay of the exponential average of the weights, which is exported
CONTEXT = 0.25  # part of the images that are context scenes
SHARPNESS = 3  # sharpness of the pooling of patches: 0 would be the mean, infinity the maximum
LOG_EVERY, SAVE_EVERY = 20, 200
CHECKPOINT_FILE, LOG_FILE = "checkpoint.pt", "log.jsonl"


@dataclass(frozen=True)
class Stage:
    """Describes a stage of the training.

    Attributes:
        steps: Number of steps of the optimizer.
        side: Side of the images, in pixels.
        most: Maximum number of classes in an image.
        parts: Number of disjoint sets of patches as which an image is shown, each with captions.
        blanked: Maximum part of the patches that is blanked.
        naming: Weight of the multi-label loss; that of image-text matching is 1.
        rates: Learning rates at the first and after the last step, linear in between.
        warm_up: Number of steps over which the learning rate first rises from 0.
        hard: Whether false captions are hard negatives: they name an absent class the more often,
            the more the multi-label loss takes it to be present, as in ALBEF and BLIP. Otherwise
            all absent classes are named equally often.
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
    def images(self) -> int:
        """Return the number of scenes in a step."""
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
    """Makes the batch of each step.

    A batch has "pixels", float32 [N, 3, S, S], and "names", whether each class is in each image,
    bool [N, C].
    """

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        stage, _ = stage_at(step)
        square = Preprocess((stage.side, stage.side), VISION["patch_size"], MEAN, STD)
        pixels, names = [], []
        for number in range(stage.images):
            index = step * BATCH + number
            kind = (
                "context" if np.random.default_rng([SEED, index]).random() < CONTEXT else "stickers"
            )
            drawn = scene(kind, SEED, index, (stage.side, stage.side), stage.most)
            pixels.append(model_input(drawn.image, square))
            names.append([name in drawn.classes for name in CLASSES])
        return {"pixels": torch.from_numpy(np.stack(pixels)), "names": torch.tensor(names)}


def fingerprint() -> str:
    """Describe all constants that the result of a training depends on."""
    numbers = (SEED, BATCH, WEIGHT_DECAY, AVERAGE, CONTEXT, SHARPNESS)
    return repr((numbers, STAGES, VISION, TEXT, CLASSES))


def stage_at(step: int) -> tuple[Stage, int]:
    """Return the stage of a step, and the number of the step within the stage.

    Raises:
        IndexError: The step is past the last stage.
    """
    for stage in STAGES:
        if step < stage.steps:
            return stage, step
        step -= stage.steps
    raise IndexError(step)


def learning_rate(step: int) -> float:
    """Return the learning rate of a step."""
    stage, number = stage_at(step)
    first, last = stage.rates
    rate = first + (last - first) * number / stage.steps
    return rate * min(1, (number + 1) / stage.warm_up)


class Training(nn.Module):
    """Holds the model, the layers that only the training needs, and the optimizer."""

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
        """Run one step of the optimizer.

        Args:
            number: Number of the step.
            batch: Batch of the step, from `Batches`.

        Returns:
            Losses "matching" and "naming", and "right", the part of captions judged right.
        """
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
        """Draw captions of each part of an image: ids and mask [B, 4, T], true [B, 4].

        Args:
            number: Number of the step.
            names: Whether each class is in the image, bool [B, C].
            mistaken: Logits that each class is in the image, [B, C], for hard negatives; None to
                name all absent classes equally often.
        """
        rng = np.random.default_rng([SEED, number])
        odds = torch.ones(names.shape) if mistaken is None else mistaken.exp()
        sampled = [
            caption
            for present, class_odds in zip(names.numpy(), odds.double().numpy(), strict=True)
            for caption in captions.sample(rng, present, class_odds)
        ]
        written = [caption for classes, _ in sampled for caption in self.captioner.write(classes)]
        shape = (len(names), captions.PER_IMAGE, -1)
        ids, mask = (torch.from_numpy(array).view(shape) for array in self.captioner.pad(written))
        return (
            ids,
            mask,
            torch.tensor([true for _, true in sampled], dtype=torch.int64).view(shape[:2]),
        )

    def _embeds(self, stage: Stage, pixels: torch.Tensor) -> torch.Tensor:
        patch = VISION["patch_size"]
        grid, whole = stage.side // patch, SIDE // patch
        row, column = torch.randint(whole - grid + 1, (2,)).tolist()
        order = torch.rand(len(pixels), grid * grid).argsort(dim=1)
        if stage.parts > 1:
            patch_indices = order.unflatten(1, (stage.parts, -1)).flatten(0, 1)
            pixels = pixels.repeat_interleave(stage.parts, dim=0)
            return encode_image(self.blip, pixels, patch_indices, (row, column))
        share = torch.rand(len(pixels), 1) * stage.blanked
        seen = (order >= share * grid * grid).float().unflatten(1, (1, grid, grid))
        pixels = pixels * nn.functional.interpolate(seen, scale_factor=patch)
        return encode_image(self.blip, pixels, None, (row, column))

    def save(self, file: Path, step: int, seconds: float) -> None:
        """Write a checkpoint; an interruption leaves the last one.

        Args:
            file: File of the checkpoint.
            step: Number of steps that are done.
            seconds: Time of the training, in seconds.
        """
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
        """Read a checkpoint.

        Args:
            file: File of the checkpoint.

        Returns:
            Number of the next step, and the seconds of the training so far.

        Raises:
            click.ClickException: The checkpoint was trained with other constants.
        """
        state = torch.load(file, weights_only=True)
        if state["recipe"] != fingerprint():
            raise click.ClickException(
                f"'{file}' was trained by another recipe: remove it, or give another --folder"
            )
        self.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        return state["step"], state["seconds"]


def pool(logits: torch.Tensor) -> torch.Tensor:
    """Pool patch logits [B, P, C] to image logits [B, C], by a soft maximum."""
    count = torch.tensor(logits.shape[1])
    return (torch.logsumexp(SHARPNESS * logits, dim=1) - count.log()) / SHARPNESS


def train(folder: Path) -> BlipForImageTextRetrieval:
    """Train the demo model, or resume an interrupted training.

    Args:
        folder: Folder of the checkpoint and the log.

    Returns:
        Trained model with averaged weights.
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
                means = {key: float(np.mean([row[key] for row in recent])) for key in recent[0]}
                with log.open("ab") as file:
                    line = {"step": done, "seconds": round(seconds), **means}
                    file.write(msgspec.json.encode(line) + b"\n")
                recent = []
            if done % SAVE_EVERY == 0 or done == STEPS:
                training.save(checkpoint, done, seconds)
    training.blip.load_state_dict(training.average)
    return training.blip.eval()


def _cut(log: Path, step: int) -> None:
    """Cut the log after a step, as all later steps are run again."""
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    earlier = [line for line in lines if line.endswith(b"\n") and _step(line) <= step]
    part = log.with_suffix(".part")
    part.write_bytes(b"".join(earlier))
    os.replace(part, log)


def _step(line: bytes) -> int:
    return msgspec.json.decode(line)["step"]
