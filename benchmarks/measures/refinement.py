"""Times the resize of images and the refinement of class maps, and what refining smaller costs.

Timing contract: `labels` is from class maps in memory to labels, without a CRF, at a size that was
refined before, so that matrices which are kept are there. `resize` starts at Pillow's image. One
thread; set OPENBLAS_NUM_THREADS=1, as NumPy takes all processors for its products. A `photograph`
is a process, from its start to its end, that segments a file of 12 megapixels and writes its files.
`quality` is the mean IoU on sticker scenes of 256 pixels, and on some of them enlarged to 1024, as
nobody has photographs with masks here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pnp_ovss.engine import Segmenter
from pnp_ovss.engine.device import CPU
from pnp_ovss.engine.evaluation import DATASETS, Dataset, Sample, evaluate
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import SIDE as SIDE_OF_SCENES
from pnp_ovss.engine.inputs import images
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.model.manifest import Preprocess
from pnp_ovss.engine.refine.channels import lines
from pnp_ovss.engine.settings import Settings
from pnp_ovss.kernels import reference

from ..baselines import full_size_blur
from ..harness.records import Rows, describe
from ..harness.timing import interleaved

SIZES = ((640, 480), (1920, 1080), (4000, 3000))
CLASSES = ("cat", "frog", "hot dog")
GRID = (24, 24)
SIDE = 384  # of the model's input
PHOTOGRAPH = (4000, 3000)
PHOTOGRAPH_SIDES = (None, 2048, 1024, 512)
SCENE_SIDES = {1: (None, 128, 64), 4: (None, 512, 256)}  # by how often a scene is enlarged
ENLARGED_SCENES = 10  # at most


def measure(
    rounds: int, scenes: int, about: Mapping[str, Any], say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Measure a row for each size, photograph and quality.

    Args:
        rounds: Minimum number of rounds; see `harness.timing`.
        scenes: Number of sticker scenes of `quality`.
        about: Fields that every row repeats: machine and command.
        say: Function that is called with a line of text at each step.
    """
    for size in SIZES:
        say(f"refinement and resize of {size[0]}x{size[1]}")
        yield {"what": "labels", **_labels(size, rounds), **about}
        yield {"what": "resize", **_resize(size, rounds), **about}
    with tempfile.TemporaryDirectory() as folder:
        photograph = Path(folder) / "photograph.jpg"
        sample(PHOTOGRAPH).save(photograph, quality=90)
        for side in PHOTOGRAPH_SIDES:
            say(f"a photograph of 12 megapixels, refined at {side or 'full size'}")
            runs = [_process(photograph, side) for _ in range(rounds)]
            seconds, peaks = zip(*runs, strict=True)
            yield {
                "what": "photograph",
                "refine_side": side,
                "seconds": float(np.median(seconds)),
                "peak_mb": float(np.median(peaks)),
                **about,
            }
    for times, sides in SCENE_SIDES.items():
        for side in sides:
            say(f"quality of scenes enlarged {times} times, refined at {side or 'full size'}")
            row = {"what": "quality", "refine_side": side, "pixels": times * SIDE_OF_SCENES}
            yield {**row, **_quality(times, side, scenes), **about}


def sample(size: tuple[int, int]) -> Image.Image:
    """Make an image of a size, (width, height), of a sample that comes with the demo model."""
    folder = open_model("demo").path.parent / "samples"
    with Image.open(sorted(folder.glob("*.jpg"))[0]) as image:
        return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def _labels(size: tuple[int, int], rounds: int) -> dict[str, Any]:
    width, height = size
    settings = Settings(crf=None)
    smooth = np.random.default_rng(0).random((len(CLASSES), *GRID), np.float32) ** 8
    matrices = lines(GRID, (height, width), settings, classes=len(CLASSES))
    numbers = np.arange(1 + len(CLASSES), dtype=np.uint16)
    level = settings.threshold
    contenders = {
        "before_s": lambda: full_size_blur.labels(smooth, height, width, settings),
        "numpy_s": lambda: reference.labels(smooth, matrices, level, numbers),
        "ours_s": lambda: CPU.kernels.labels(smooth, matrices, level, numbers),
    }
    same = (contenders["numpy_s"]() == contenders["ours_s"]()).mean()
    return {"size": size, "same": float(same), **medians(interleaved(contenders, rounds))}


def _resize(size: tuple[int, int], rounds: int) -> dict[str, Any]:
    image = sample(size)
    preprocess = Preprocess((SIDE, SIDE), 16, (0, 0, 0), (1, 1, 1))

    def pillow() -> np.ndarray:
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))

    contenders = {"before_s": pillow, "ours_s": lambda: images.resize(image, preprocess)}
    return {"size": size, **medians(interleaved(contenders, rounds))}


def medians(seconds: Mapping[str, np.ndarray], slower: str = "before_s") -> dict[str, float]:
    """Return the medians of the seconds, and that of the ratios of a contender to `ours_s`."""
    found = {name: float(np.median(values)) for name, values in seconds.items()}
    return {**found, "times_as_fast": float(np.median(seconds[slower] / seconds["ours_s"]))}


_CHILD = """
import sys
from pnp_ovss.engine.cli import main
code = main(sys.argv[1:])
with open("/proc/self/status") as status:
    print(*(line.split()[1] for line in status if line.startswith("VmHWM")), file=sys.stderr)
raise SystemExit(code)
"""


def _process(photograph: Path, side: int | None) -> tuple[float, float]:
    """Run `pnp-ovss segment` on a file; return its seconds, and its peak of memory in MB."""
    words = ["segment", str(photograph), "--classes", ",".join(CLASSES), "--model", "demo"]
    words += [] if side is None else ["--refine-side", str(side)]
    words += ["-o", str(photograph.parent / "out")]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *words], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    return seconds, int(done.stderr.split()[-1]) * 1024 / 1e6


def _quality(times: int, side: int | None, scenes: int) -> dict[str, Any]:
    count = scenes if times == 1 else min(scenes, ENLARGED_SCENES)
    dataset = DATASETS["stickers"]
    if times > 1:
        dataset = replace(dataset, sample=partial(_enlarged, dataset, times))
    with Segmenter.load("demo") as segmenter:
        settings = replace(segmenter.settings, refine_side=side)
        scores = evaluate(segmenter, dataset, settings, images=count)
    return {"scenes": count, "miou": float(scores.miou)}


def _enlarged(dataset: Dataset, times: int, index: int) -> Sample:
    scene = dataset.sample(index)
    size = (times * scene.image.width, times * scene.image.height)
    image = scene.image.resize(size, Image.Resampling.BICUBIC)
    return Sample(image, scene.truth.repeat(times, 0).repeat(times, 1), scene.classes)


def table(rows: Rows) -> str:
    """Write the rows as Markdown."""
    return "\n\n".join(
        [
            describe(rows[0]["machine"]),
            f"`{rows[0]['command']}`",
            table_of(
                [row for row in rows if row["what"] == "labels"],
                "| class maps to labels | at first, ms | NumPy, ms | C++, ms | times as fast |",
                lambda row: [
                    _size(row),
                    *(milliseconds(row, name) for name in ("before_s", "numpy_s", "ours_s")),
                    f"{row['times_as_fast']:.1f}",
                ],
            ),
            table_of(
                [row for row in rows if row["what"] == "resize"],
                f"| resize to {SIDE}x{SIDE} | Pillow, ms | C++, ms | times as fast |",
                lambda row: [
                    _size(row),
                    *(milliseconds(row, name) for name in ("before_s", "ours_s")),
                    f"{row['times_as_fast']:.1f}",
                ],
            ),
            table_of(
                [row for row in rows if row["what"] == "photograph"],
                "| 12 megapixels, file to files | seconds | peak, MB |",
                lambda row: [_side(row), f"{row['seconds']:.2f}", f"{row['peak_mb']:.0f}"],
            ),
            table_of(
                [row for row in rows if row["what"] == "quality"],
                "| sticker scenes | pixels a side | scenes | mean IoU |",
                lambda row: [
                    _side(row),
                    str(row["pixels"]),
                    str(row["scenes"]),
                    f"{row['miou']:.3f}",
                ],
            ),
        ]
    )


def table_of(rows: Rows, head: str, cells: Callable[[dict[str, Any]], Sequence[str]]) -> str:
    """Write a table in Markdown: its head, and a line of cells for each row."""
    rule = "|---|" + "---:|" * (head.count("|") - 2)
    return "\n".join([head, rule, *(f"| {' | '.join(cells(row))} |" for row in rows)])


def _size(row: Mapping[str, Any]) -> str:
    return "x".join(map(str, row["size"]))


def milliseconds(row: Mapping[str, Any], name: str) -> str:
    """Write a field of seconds in milliseconds."""
    return f"{1000 * row[name]:.1f}"


def _side(row: Mapping[str, Any]) -> str:
    side = row["refine_side"]
    return "refined at full size" if side is None else f"--refine-side {side}"
