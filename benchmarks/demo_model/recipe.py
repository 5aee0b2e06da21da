"""Saves the checkpoint of the demo model after training, and exports it."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import BlipForImageTextRetrieval

from pnp_ovss.engine.evaluation.datasets.stickers.classes import CLASSES
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import SIDE
from pnp_ovss.engine.settings import Settings
from pnp_ovss.export import export

from ..harness.random_models import save_checkpoint
from .model import tokenizer

CHECKPOINT = Path(__file__).parent / "sticker-blip"
DEMO = Path(__file__).resolve().parents[2] / "engine" / "data" / "demo"

# Chosen by `python -m benchmarks.demo_model grid-search`.
LAYERS, HEADS = (0, 1), "all"
SETTINGS = Settings(passes=2, drop_schedule=10, threshold=0.05, blur=0.05, match_threshold=0.7)


def keep(model: BlipForImageTextRetrieval, log: Path) -> None:
    """Save trained weights in float16, and the log of the training.

    Args:
        model: Trained model; its weights are converted in place.
        log: Log of the training.
    """
    save_checkpoint(model.half(), tokenizer(), CHECKPOINT)
    shutil.copy(log, CHECKPOINT)


def export_demo() -> None:
    """Export the checkpoint as the model that the package ships."""
    export(
        str(CHECKPOINT),
        DEMO,
        image_size=SIDE,
        layer=LAYERS,
        head=HEADS,
        settings=SETTINGS,
        weights="float16",
        classes=CLASSES,
        overwrite=True,
        say=print,
    )
