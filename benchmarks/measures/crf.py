"""Times the dense CRF against pydensecrf2: its parts, and by size, labels and threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pnp_ovss.engine.processors import processors
from pnp_ovss.engine.refine import crf, pydensecrf_worker
from pnp_ovss.kernels import densecrf, reference
from pnp_ovss.kernels.cpu.densecrf import Profile

from ..harness.timing import interleaved, longest_wait, paired_ratio

SIZES = ((250, 188), (500, 375), (1024, 683), (2048, 1365))
LABELS = (2, 3, 8, 21, 64)
SIZE, FEW, MANY = SIZES[1], 3, 21
LARGE = SIZES[2]
PARTS = {
    "read": "read and write",
    "write": "read and write",
    "build": "build",
    "first": "splat (first iteration)",
    "sweep": "slice, softmax, splat",
    "last": "slice (last iteration)",
    "blur": "blur",
}


def measure(rounds: int) -> Iterator[dict[str, Any]]:
    """Measure the rows of the dense CRF.

    First against pydensecrf2 by image size and number of labels; then several threads, two images
    at once, and the wait of another Python thread.

    Args:
        rounds: Minimum number of turns of each contender; see `harness.timing`.
    """
    cases = {(*size, FEW) for size in SIZES} | {(*SIZE, labels) for labels in LABELS}
    for width, height, labels in sorted(cases | {(*LARGE, MANY)}):
        yield _against_pydensecrf(width, height, labels, rounds)
    for threads in sorted({1, 2, 4, 8, processors()}):
        if threads <= processors():
            yield _threads(threads, rounds)
    yield _two_images(rounds)
    yield _stall()


def problem(width: int, height: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Make an input of the CRF.

    Args:
        width: Width W of the image, in pixels.
        height: Height H of the image, in pixels.
        labels: Number C of labels.

    Returns:
        Sample image, uint8 [H, W, 3], and smooth probabilities, float32 [C, H, W].
    """
    folder = resources.files("pnp_ovss.engine") / "data" / "samples"
    with Image.open(str(folder / "beach.jpg")) as sample:
        image = np.array(sample.convert("RGB").resize((width, height)))
    coarse = np.random.default_rng(labels).random((labels, 6, 8), np.float32)
    channels = [np.asarray(Image.fromarray(c).resize((width, height), 2)) for c in coarse]
    return image, reference.softmax(np.stack(channels))


def _against_pydensecrf(width: int, height: int, labels: int, rounds: int) -> dict[str, Any]:
    image, probabilities = problem(width, height, labels)
    profiles, results = [], {}

    def ours() -> None:
        profiles.append(Profile())
        results["ours"] = densecrf(image, probabilities, profile=profiles[-1])

    def theirs() -> None:
        results["theirs"] = pydensecrf_worker.infer(
            image, probabilities, crf.ITERATIONS, crf.KERNELS
        )

    seconds = interleaved({"ours": ours, "theirs": theirs}, rounds)
    labeled = [marginals.argmax(axis=0) for marginals in results.values()]
    return {
        "what": "against pydensecrf2",
        "width": width,
        "height": height,
        "labels": labels,
        "ours_s": float(np.median(seconds["ours"])),
        "pydensecrf2_s": float(np.median(seconds["theirs"])),
        "ratio": paired_ratio(seconds["theirs"], seconds["ours"]),
        "parts_s": {
            name: float(np.median([getattr(profile, name) for profile in profiles]))
            for name in PARTS
        },
        "vertices_per_pixel": profiles[-1].vertices / (width * height),
        "same_labels": float(np.mean(labeled[0] == labeled[1])),
        "largest_difference": float(np.abs(results["ours"] - results["theirs"]).max()),
    }


def _threads(threads: int, rounds: int) -> dict[str, Any]:
    image, probabilities = problem(*LARGE, FEW)
    seconds = interleaved(
        {
            "one": lambda: densecrf(image, probabilities),
            "several": lambda: densecrf(image, probabilities, threads=threads),
        },
        rounds,
    )
    return {
        "what": "threads in one image",
        "threads": threads,
        "seconds": float(np.median(seconds["several"])),
        "ratio": paired_ratio(seconds["one"], seconds["several"]),
    }


def _two_images(rounds: int) -> dict[str, Any]:
    image, probabilities = problem(*SIZE, MANY)
    images, inputs = [image] * 4, [probabilities] * 4
    with ThreadPoolExecutor(2) as pool:
        seconds = interleaved(
            {
                "one": lambda: list(map(densecrf, images, inputs)),
                "two": lambda: list(pool.map(densecrf, images, inputs)),
            },
            rounds,
        )
    return {
        "what": "two images on two threads",
        "ratio": paired_ratio(seconds["one"], seconds["two"]),
    }


def _stall() -> dict[str, Any]:
    """Measure the longest wait of another Python thread, during a sleep and during the CRF."""
    image, probabilities = problem(*LARGE, MANY)
    waits = {
        "idle": longest_wait(lambda: time.sleep(1)),
        "densecrf": longest_wait(lambda: densecrf(image, probabilities)),
    }
    return {"what": "longest wait of another thread", "seconds": waits}


def table(rows: list[dict[str, Any]]) -> str:
    """Write the rows as Markdown."""
    lines = [
        "| pixels | labels | densecrf | pydensecrf2 | ratio (9 in 10 rounds) | build | splat, first"
        " | slice, softmax, splat | slice, last | blur | read, write | same labels |",
        "|" + "---|" * 12,
    ]
    for row in rows:
        if row["what"] == "against pydensecrf2":
            part = {name: 1000 * value for name, value in row["parts_s"].items()}
            ratio = row["ratio"]
            lines.append(
                f"| {row['width']}x{row['height']} | {row['labels']}"
                f" | {1000 * row['ours_s']:.0f} ms | {1000 * row['pydensecrf2_s']:.0f} ms"
                f" | {ratio['median']:.2f} ({ratio['p05']:.2f} to {ratio['p95']:.2f})"
                f" | {part['build']:.0f} | {part['first']:.0f} | {part['sweep']:.0f}"
                f" | {part['last']:.0f} | {part['blur']:.0f} | {part['read'] + part['write']:.0f}"
                f" | {row['same_labels']:.6f} |"
            )
    lines.append("")
    for row in rows:
        if row["what"] == "threads in one image":
            lines.append(
                f"- {row['threads']} thread{'s' * (row['threads'] > 1)} in one image of"
                f" {LARGE[0]}x{LARGE[1]}, {FEW} labels:"
                f" {row['ratio']['median']:.2f} times as fast as one"
            )
        elif row["what"] == "two images on two threads":
            lines.append(f"- {row['what']}: {row['ratio']['median']:.2f} times as fast as on one")
        elif row["what"] == "longest wait of another thread":
            waits = {name: f"{1000 * wait:.1f} ms" for name, wait in row["seconds"].items()}
            lines.append(
                f"- {row['what']}: {waits['densecrf']}; while nothing else runs {waits['idle']}"
            )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], output: Path) -> None:
    """Draw the rows as a PNG file."""
    compared = [row for row in rows if row["what"] == "against pydensecrf2"]
    by_size = [row for row in compared if row["labels"] == FEW]
    by_labels = [row for row in compared if (row["width"], row["height"]) == SIZE]
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    (sizes, labels), (parts, threads) = figure.subplots(2, 2)
    _compare(sizes, [row["width"] * row["height"] / 1e6 for row in by_size], by_size)
    sizes.set(xlabel="megapixels", title=f"{FEW} labels")
    _compare(labels, [row["labels"] for row in by_labels], by_labels)
    labels.set(xlabel="labels", title=f"{SIZE[0]}x{SIZE[1]} pixels")
    _stack(parts, compared)
    scaled = [row for row in rows if row["what"] == "threads in one image"]
    count = [row["threads"] for row in scaled]
    threads.plot(count, [row["ratio"]["median"] for row in scaled], marker="o")
    threads.plot(count, count, color="gray", linestyle=":", label="ideal")
    threads.set(xlabel="threads in one image", ylabel="times as fast as one", xticks=count)
    threads.set_title(f"{LARGE[0]}x{LARGE[1]} pixels, {FEW} labels")
    threads.legend()
    figure.savefig(output, dpi=110)


def _compare(axes: Axes, across: list[float], rows: list[dict[str, Any]]) -> None:
    for name, label in (("pydensecrf2_s", "pydensecrf2"), ("ours_s", "densecrf")):
        axes.loglog(across, [row[name] for row in rows], marker="o", label=label)
    for x, row in zip(across, rows, strict=True):
        axes.annotate(
            f"{row['ratio']['median']:.1f}x",
            (x, row["ours_s"]),
            textcoords="offset points",
            xytext=(4, -12),
            fontsize=8,
        )
    axes.set(ylabel="seconds, one thread")
    axes.set_xticks(across, [f"{x:.2g}" for x in across])
    axes.minorticks_off()
    axes.legend()


def _stack(axes: Axes, rows: list[dict[str, Any]]) -> None:
    names = [f"{row['width']}x{row['height']}\n{row['labels']} labels" for row in rows]
    bottom = np.zeros(len(rows))
    for label in dict.fromkeys(PARTS.values()):
        parts = [name for name, shown in PARTS.items() if shown == label]
        height = np.array([sum(row["parts_s"][name] for name in parts) for row in rows])
        height /= [sum(row["parts_s"].values()) for row in rows]
        axes.bar(names, height, bottom=bottom, label=label)
        bottom += height
    axes.set(ylabel="part of the time", ylim=(0, 1))
    axes.tick_params(axis="x", labelsize=6)
    axes.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
