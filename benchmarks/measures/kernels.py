"""Kernels of the passes and the refinement, against what PyTorch and SciPy have for the same.

Timing contract: arrays are on the device already and stay there; the clock stops when the device is
done. Before it is timed, each is compared with the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from pnp_ovss.engine.device import Device, open_device
from pnp_ovss.engine.refine.channels import to_channels
from pnp_ovss.engine.settings import Settings
from pnp_ovss.export.models.blip import checkpoint as blip

from ..baselines import eager
from ..harness.records import Rows, describe
from ..harness.timing import bootstrap_interval, interleaved

BATCH, SIDE, PATCH, TOKENS = 4, 336, 16, 16
GRID = SIDE // PATCH
PICTURE_SIZES = ((500, 375), (1024, 683))
LABELS = (4, 21)
_CLOSE = 1e-4  # absolute; values are in [0, 1], but for normalized pixels


@dataclass(frozen=True)
class Pair:
    """A kernel, and the same from a library; each gives its result.

    Attributes:
        name: of the kernel.
        size: of what it is given.
        ours: the kernel.
        theirs: the library's.
        library: its name.
    """

    name: str
    size: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    library: str = "PyTorch"


def measure(device_name: str, rounds: int, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each kernel and size.

    Args:
        device_name: "cpu" or "cuda:N".
        rounds: turns of both, at least; see `timing`.
        about: fields of every row.
    """
    device = open_device(device_name)
    for pair in [*_of_passes(device), *_of_refinement(device)]:
        with device.on_stream():
            off = float(np.abs(_host(pair.ours()) - _host(pair.theirs())).max())
            row = {"kernel": pair.name, "size": pair.size, "library": pair.library, **about}
            if not off <= _CLOSE:
                yield {**row, "skipped": f"wrong: off by {off:.1e}"}
                continue
            seconds = interleaved(
                {
                    "ours": lambda pair=pair: _waited(device, pair.ours),
                    "theirs": lambda pair=pair: _waited(device, pair.theirs),
                },
                rounds,
            )
        yield {
            **row,
            "ours_s": float(np.median(seconds["ours"])),
            "theirs_s": float(np.median(seconds["theirs"])),
            "ratio": float(np.median(seconds["theirs"] / seconds["ours"])),
            "ratio_interval": bootstrap_interval(seconds["theirs"], seconds["ours"]),
            "off": off,
            "rounds": len(seconds["ours"]),
        }


def _waited(device: Device, run: Callable[[], Any]) -> None:
    run()
    if device.stream is not None:
        device.stream.synchronize()
        torch.cuda.synchronize(device.name)


def _host(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.cpu().numpy()
    return (value if isinstance(value, np.ndarray) else value.get()).astype(np.float64)


def _of_passes(device: Device) -> Iterator[Pair]:
    random = np.random.default_rng(0)
    squares = random.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8)
    dropped = random.random((BATCH, GRID * GRID)) < 0.5
    salience = random.random((BATCH, TOKENS, GRID * GRID), np.float32)
    scores = random.random(dropped.shape, np.float32)
    class_token = np.zeros((BATCH, TOKENS), bool)
    class_token[:, 4:10] = True
    numpy = {"squares": squares, "dropped": dropped, "salience": salience, "scores": scores}
    numpy |= {"class_token": class_token, "first": np.arange(BATCH + 1, dtype=np.int32)}
    own = {name: device.xp.asarray(value) for name, value in numpy.items()}
    other = {name: torch.from_numpy(value).to(device.name) for name, value in numpy.items()}
    kernels, size = device.kernels, f"{BATCH} pictures of {SIDE} px"
    own_mean, own_std = (np.array(one, np.float32) for one in (blip.MEAN, blip.STD))
    mean, std = (torch.from_numpy(one).to(device.name) for one in (own_mean, own_std))

    def normalize() -> torch.Tensor:
        values = (other["squares"].float() / 255 - mean) / std
        return values.permute(0, 3, 1, 2).contiguous()

    yield Pair(
        "normalize", size, lambda: kernels.normalize(own["squares"], own_mean, own_std), normalize
    )
    pixels, their_pixels = kernels.normalize(own["squares"], own_mean, own_std), normalize()

    def blank() -> torch.Tensor:
        keep = (~other["dropped"]).float().reshape(BATCH, 1, GRID, GRID)
        return their_pixels * functional.interpolate(keep, scale_factor=PATCH, mode="nearest")

    yield Pair(
        "blank_patches", size, lambda: kernels.blank_patches(pixels, own["dropped"], PATCH), blank
    )
    total = device.xp.zeros_like(own["salience"])
    their_total = torch.zeros_like(other["salience"])

    def accumulate() -> Any:
        return kernels.accumulate(
            total, own["salience"], own["dropped"], own["class_token"], own["first"], 1
        )

    def add() -> torch.Tensor:
        seen = other["salience"].masked_fill(other["dropped"][:, None], 0)
        their_total.add_(seen)
        return (seen * other["class_token"][..., None]).sum(dim=1)

    yield Pair("accumulate", size, accumulate, add)

    def drop() -> torch.Tensor:
        scored = other["scores"].masked_fill(other["dropped"], -1)
        half = (~other["dropped"]).sum(dim=1, keepdim=True) // 2
        rank = scored.sort(descending=True, stable=True, dim=1).indices.argsort(dim=1)
        return other["dropped"] | (rank < half)

    # As after a pass that was halved: of each picture as many are left.
    for row in range(BATCH):
        numpy["dropped"][row] = np.arange(GRID * GRID) % 2 == 0
    own["dropped"] = device.xp.asarray(numpy["dropped"])
    other["dropped"] = torch.from_numpy(numpy["dropped"]).to(device.name)
    yield Pair(
        "drop_salient",
        size,
        lambda: kernels.drop_salient(own["scores"], own["dropped"], None),
        drop,
    )


def _of_refinement(device: Device) -> Iterator[Pair]:
    for width, height in PICTURE_SIZES:
        for labels in LABELS:
            yield from _of_picture(device, width, height, labels)


def _of_picture(device: Device, width: int, height: int, labels: int) -> Sequence[Pair]:
    size = f"{width}x{height}, {labels} labels"
    random = np.random.default_rng(labels)
    maps = random.random((labels - 1, GRID, GRID), np.float32) ** 8
    settings, preset = Settings.preset("paper"), eager.PRESETS["paper"]
    own_maps = device.xp.asarray(maps)
    kernels = device.kernels
    picture = Image.new("RGB", (width, height))  # of which the baseline wants the size alone
    channels = to_channels(own_maps, height, width, settings, device)
    theirs = torch.from_numpy(_host(channels).astype(np.float32)).to(device.name)
    numbers = np.arange(labels, dtype=np.uint16)
    return [
        Pair(
            "refine (threshold, upsample, background, blur)",
            size,
            lambda: to_channels(own_maps, height, width, settings, device),
            lambda: eager.refine(maps, picture, preset, True),
            "PyTorch, SciPy",
        ),
        Pair("softmax", size, lambda: kernels.softmax(channels), lambda: theirs.softmax(dim=0)),
        Pair(
            "choose_labels",
            size,
            lambda: kernels.choose_labels(channels, numbers),
            lambda: theirs.argmax(dim=0),
        ),
    ]


def table(rows: Rows) -> str:
    """The rows as Markdown."""
    lines = [
        "| kernel | of | ms | the same by | ms | times as fast |",
        "|---|---|---:|---|---:|---:|",
    ]
    for row in rows:
        if "skipped" in row:
            lines.append(f"| {row['kernel']} | {row['size']} | {row['skipped']} | | | |")
            continue
        low, high = row["ratio_interval"]
        lines.append(
            f"| {row['kernel']} | {row['size']} | {1000 * row['ours_s']:.2f} | {row['library']}"
            f" | {1000 * row['theirs_s']:.2f} | {row['ratio']:.1f} [{low:.1f}, {high:.1f}] |"
        )
    about = f"{describe(rows[0]['machine'])}\n\n`{rows[0]['command']}`\n\n" if rows else ""
    return about + "\n".join(lines)
