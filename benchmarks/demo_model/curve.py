"""Draws the curve of a training from its log."""

from __future__ import annotations

from pathlib import Path

import msgspec
from matplotlib.figure import Figure

from .train import STAGES


def draw(log: Path, output: Path) -> None:
    """Draw losses and matching accuracy over the steps; the title has the time in minutes.

    Args:
        log: Log of a training, which `train` wrote.
        output: PNG file to write.
    """
    lines = [msgspec.json.decode(line) for line in log.read_bytes().splitlines()]
    steps = [line["step"] for line in lines]
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    losses, accuracy = figure.subplots(2, sharex=True)
    losses.plot(steps, [line["matching"] for line in lines], label="image-text matching")
    losses.plot(steps, [4 * line["naming"] for line in lines], label="naming (x 4)")
    losses.set(ylabel="loss", ylim=(0, 0.85))
    losses.legend(loc="upper right")
    accuracy.plot(steps, [line["right"] for line in lines], color="tab:green")
    accuracy.set(xlabel="step", ylabel="captions judged right", ylim=(0.45, 1))
    start = 0
    for number, stage in enumerate(STAGES, 1):
        middle = start + stage.steps / 2
        losses.text(middle, 0.02, str(number), ha="center", fontsize=8, color="gray")
        start += stage.steps
        for axes in (losses, accuracy):
            axes.axvline(start, color="gray", linewidth=0.6, linestyle=":")
    losses.set_title(f"{steps[-1]} steps in {lines[-1]['seconds'] / 60:.0f} minutes")
    figure.savefig(output, dpi=110)
