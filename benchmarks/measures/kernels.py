"""Times the kernels of the passes and the refinement against PyTorch and SciPy.

Timing contract: arrays are on the device before and after; the clock stops when the device is done.
Before a kernel is timed, its result is compared with that of the library.
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
from pnp_ovss.engine.refine.channels import lines
from pnp_ovss.engine.settings import Settings
from pnp_ovss.export.models.blip import checkpoint as blip

from ..baselines import eager
from ..harness.records import Rows, describe
from ..harness.timing import bootstrap_interval, interleaved

BATCH, SIDE, PATCH, TOKENS = 4, 336, 16, 16
GRID = SIDE // PATCH
IMAGE_SIZES = ((500, 375), (1024, 683))
LABELS = (4, 21)
_TOLERANCE = 1e-4  # absolute; values are in [0, 1], but for normalized pixels


@dataclass(frozen=True)
class Pair:
    """Pairs a kernel with the functions of a library that compute the same.

    Attributes:
        name: Name of the kernel.
        size: Size of the input, as shown in the table.
        ours: Function that runs the kernel and returns its result.
        theirs: Function that runs the library and returns its result.
        library: Name of the library.
    """

    name: str
    size: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    library: str = "PyTorch"


def measure(device_name: str, rounds: int, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Measure a row for each kernel and size.

    Args:
        device_name: Device, "cpu" or "cuda:N".
        rounds: Minimum number of turns of kernel and library; see `harness.timing`.
        about: Fields that every row repeats: machine and command.
    """
    device = open_device(device_name)
    for pair in [*_of_passes(device), *_of_refinement(device)]:
        with device.on_stream():
            error = float(np.abs(_to_host(pair.ours()) - _to_host(pair.theirs())).max())
            row = {"kernel": pair.name, "size": pair.size, "library": pair.library, **about}
            if not error <= _TOLERANCE:
                yield {**row, "skipped": f"wrong: off by {error:.1e}"}
                continue
            seconds = interleaved(
                {
                    "ours": lambda pair=pair: _run_and_wait(device, pair.ours),
                    "theirs": lambda pair=pair: _run_and_wait(device, pair.theirs),
                },
                rounds,
            )
        yield {
            **row,
            "ours_s": float(np.median(seconds["ours"])),
            "theirs_s": float(np.median(seconds["theirs"])),
            "ratio": float(np.median(seconds["theirs"] / seconds["ours"])),
            "ratio_interval": bootstrap_interval(seconds["theirs"], seconds["ours"]),
            "off": error,
            "rounds": len(seconds["ours"]),
        }


def _run_and_wait(device: Device, run: Callable[[], Any]) -> None:
    run()
    if device.stream is not None:
        device.stream.synchronize()
        torch.cuda.synchronize(device.name)


def _to_host(value: Any) -> np.ndarray:
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
    arrays = {name: device.xp.asarray(value) for name, value in numpy.items()}
    tensors = {name: torch.from_numpy(value).to(device.name) for name, value in numpy.items()}
    kernels, size = device.kernels, f"{BATCH} images of {SIDE} px"
    mean, std = np.array(blip.MEAN, np.float32), np.array(blip.STD, np.float32)
    mean_tensor, std_tensor = (torch.from_numpy(m).to(device.name) for m in (mean, std))

    def normalize() -> torch.Tensor:
        values = (tensors["squares"].float() / 255 - mean_tensor) / std_tensor
        return values.permute(0, 3, 1, 2).contiguous()

    yield Pair(
        "normalize", size, lambda: kernels.normalize(arrays["squares"], mean, std), normalize
    )
    pixels, pixels_tensor = kernels.normalize(arrays["squares"], mean, std), normalize()

    def blank() -> torch.Tensor:
        keep = (~tensors["dropped"]).float().reshape(BATCH, 1, GRID, GRID)
        return pixels_tensor * functional.interpolate(keep, scale_factor=PATCH, mode="nearest")

    yield Pair(
        "blank_patches",
        size,
        lambda: kernels.blank_patches(pixels, arrays["dropped"], PATCH),
        blank,
    )
    total = device.xp.zeros_like(arrays["salience"])
    total_tensor = torch.zeros_like(tensors["salience"])

    def accumulate() -> Any:
        return kernels.accumulate(
            total,
            arrays["salience"],
            arrays["dropped"],
            arrays["class_token"],
            arrays["first"],
            1,
        )

    def add() -> torch.Tensor:
        seen = tensors["salience"].masked_fill(tensors["dropped"][:, None], 0)
        total_tensor.add_(seen)
        return (seen * tensors["class_token"][..., None]).sum(dim=1)

    yield Pair("accumulate", size, accumulate, add)

    def drop() -> torch.Tensor:
        scored = tensors["scores"].masked_fill(tensors["dropped"], -1)
        half = (~tensors["dropped"]).sum(dim=1, keepdim=True) // 2
        rank = scored.sort(descending=True, stable=True, dim=1).indices.argsort(dim=1)
        return tensors["dropped"] | (rank < half)

    # Half of the patches of each image remain, as after a pass.
    for row in range(BATCH):
        numpy["dropped"][row] = np.arange(GRID * GRID) % 2 == 0
    arrays["dropped"] = device.xp.asarray(numpy["dropped"])
    tensors["dropped"] = torch.from_numpy(numpy["dropped"]).to(device.name)
    yield Pair(
        "drop_salient",
        size,
        lambda: kernels.drop_salient(arrays["scores"], arrays["dropped"], None),
        drop,
    )


def _of_refinement(device: Device) -> Iterator[Pair]:
    for width, height in IMAGE_SIZES:
        for labels in LABELS:
            yield from _of_image(device, width, height, labels)


def _of_image(device: Device, width: int, height: int, labels: int) -> Sequence[Pair]:
    size = f"{width}x{height}, {labels} labels"
    random = np.random.default_rng(labels)
    maps = random.random((labels - 1, GRID, GRID), np.float32) ** 8
    settings, preset = Settings.preset("paper"), eager.PRESETS["paper"]
    class_maps = device.xp.asarray(maps)
    kernels = device.kernels
    image = Image.new("RGB", (width, height))  # the baseline uses only its size
    matrices = lines((GRID, GRID), (height, width), settings, classes=labels - 1)
    level, numbers = settings.threshold, np.arange(labels, dtype=np.uint16)
    channels = kernels.channels(class_maps, matrices, level)
    tensor = torch.from_numpy(_to_host(channels).astype(np.float32)).to(device.name)

    def refined() -> np.ndarray:
        return eager.refine(maps, image, preset, True)

    return [
        Pair(
            "channels (threshold, upsample, background, blur)",
            size,
            lambda: kernels.channels(class_maps, matrices, level),
            refined,
            "PyTorch, SciPy",
        ),
        Pair(
            "probabilities (channels, softmax)",
            size,
            lambda: kernels.probabilities(class_maps, matrices, level),
            lambda: torch.from_numpy(refined()).softmax(dim=0),
            "PyTorch, SciPy",
        ),
        Pair(
            "enlarged_labels (at the same size)",
            size,
            lambda: kernels.enlarged_labels(channels, numbers, height, width),
            lambda: tensor.argmax(dim=0),
        ),
    ]


def table(rows: Rows) -> str:
    """Write the rows as Markdown."""
    lines = [
        "| kernel | input | ms | library | ms | times as fast |",
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
