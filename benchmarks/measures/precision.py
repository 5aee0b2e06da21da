"""Measures the error of low precision: eager PyTorch and the engine, against themselves in fp32.

No GPU is used. PyTorch and OpenVINO compute in low precision on the CPU. The graphs that builds for
GPUs are made from are emulated; see `emulation`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import torch

from pnp_ovss.engine import Segmenter
from pnp_ovss.engine.evaluation.datasets import DATASETS
from pnp_ovss.engine.evaluation.datasets.base import Sample
from pnp_ovss.engine.evaluation.datasets.stickers.scenes import SIDE
from pnp_ovss.engine.methods.pnp_ovss import PnpOvss
from pnp_ovss.engine.model.folder import open_model
from pnp_ovss.engine.precision import Precision, PrecisionChoice
from pnp_ovss.export.validate import relative_error

from ..baselines.eager import EagerSegmenter, Preset
from ..demo_model import recipe
from ..harness.records import describe
from .emulation import open_emulated

NOTE = (
    "The demo model on sticker scenes, each engine against itself in float32. eager: Hugging Face's"
    " BLIP and autograd, weights and activations converted, or torch.autocast. engine: the exported"
    " graphs, converted by `export/graphs/precision.py`. Their low precision is emulated on the CPU"
    " (`benchmarks/measures/emulation.py`), it has not been measured on a GPU. openvino: the engine"
    " on OpenVINO with `--precision`, not emulated. Salience error: the largest difference of the"
    " class maps of one pass, relative to their largest value. Labels: after all passes and the"
    " CRF. A rounding that drops another patch changes a few per cent of them."
)

EXACT = "fp32"
SETTINGS = recipe.SETTINGS
_PACKAGES = ("torch", "onnxruntime", "openvino")
PRESET = Preset(
    drops=int(SETTINGS.drop_schedule),
    first_pass_weight=SETTINGS.first_pass_weight,
    join_words=SETTINGS.join_words,
    sum_last_class=SETTINGS.sum_last_class,
    passes=SETTINGS.passes,
    threshold=SETTINGS.threshold,
    blur=SETTINGS.blur,
)


class Row(msgspec.Struct, frozen=True):
    """Records how far an engine in a low precision is from itself in float32, scene by scene.

    Attributes:
        engine: Name of the engine, a key of `ENGINES`.
        precision: Precision: "fp16", "bf16" or "int8"; for eager PyTorch also "autocast fp16" and
            "autocast bf16".
        salience: Largest difference of the class maps of one pass, relative to the largest value.
        labels: Part of the pixels with another label, after all passes, refinement and CRF.
        match: Difference of the match probability (ITM) of one pass.
        machine: Facts of the machine: processor, versions, date.
        command: Command that repeats the measurement.
    """

    engine: str
    precision: str
    salience: list[float]
    labels: list[float]
    match: list[float]
    machine: dict[str, Any] = {}
    command: str = ""


class SceneResult(NamedTuple):
    """Stores the results of a scene.

    Attributes:
        maps: Class maps of one pass, float32 [C, gh, gw].
        match: Match probability (ITM) of one pass.
        labels: Labels after all passes, uint16 [H, W].
    """

    maps: np.ndarray
    match: float
    labels: np.ndarray


SegmentScene = Callable[[Sample], SceneResult]


def measure(
    names: Iterable[str], precisions: Collection[str], scenes: int, about: Mapping[str, Any]
) -> Iterator[Row]:
    """Measure a row for each engine and low precision, on the first sticker scenes.

    Args:
        names: Names of engines, of `ENGINES`.
        precisions: Low precisions to compare with "fp32"; empty for all that an engine has.
        scenes: Number of scenes.
        about: Fields that every row repeats: machine and command.
    """
    samples = [DATASETS["stickers"].sample(index) for index in range(scenes)]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            openers = ENGINES[name](Path(folder))
            chosen = {key: opener for key, opener in openers.items() if key in (EXACT, *precisions)}
            for row in compare(name, chosen if precisions else openers, samples):
                yield msgspec.structs.replace(row, **about)


def compare(
    name: str, openers: Mapping[str, Callable[[], SegmentScene]], samples: Sequence[Sample]
) -> Iterator[Row]:
    """Compare each low precision of an engine with float32.

    Args:
        name: Name of the engine.
        openers: Functions that open the engine, by precision; `EXACT` is one of the keys.
        samples: Scenes.
    """
    exact = openers[EXACT]()
    expected = [exact(sample) for sample in samples]
    for precision, opener in openers.items():
        if precision == EXACT:
            continue
        segment_scene = opener()
        results = [segment_scene(sample) for sample in samples]
        pairs = list(zip(results, expected, strict=True))
        yield Row(
            name,
            precision,
            salience=[_round(relative_error(r.maps, e.maps)) for r, e in pairs],
            labels=[_round(np.mean(r.labels != e.labels)) for r, e in pairs],
            match=[_round(abs(r.match - e.match)) for r, e in pairs],
        )


def table(rows: Sequence[Row]) -> str:
    """Write the rows as Markdown, with the machine and the command of each."""
    lines = [
        "| | precision | scenes | salience error: median, mean, largest"
        " | pixels with another label: median, mean | scenes with over 1 % of them"
        " | match probability: mean, largest |",
        "|" + "---|" * 7,
    ]
    measurements: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        salience, labels, match = map(np.array, (row.salience, row.labels, row.match))
        lines.append(
            f"| {row.engine} | {row.precision} | {len(labels)}"
            f" | {np.median(salience):.1e}, {salience.mean():.1e}, {salience.max():.1e}"
            f" | {np.median(labels):.1e}, {labels.mean():.1e}"
            f" | {np.sum(labels > 0.01)}: {np.mean(labels > 0.01):.1%}"
            f" | {match.mean():.1e}, {match.max():.1e} |"
        )
        key = describe(row.machine, *_PACKAGES), row.command
        measurements.setdefault(key, []).append(f"{row.engine} {row.precision}")
    sources = [
        f"{', '.join(names)}: {machine}; `{command}`"
        for (machine, command), names in measurements.items()
    ]
    return "\n\n".join([NOTE, "\n".join(lines), *sources])


def read(path: Path) -> list[Row]:
    """Read recorded rows."""
    return [msgspec.json.decode(line, type=Row) for line in path.read_bytes().splitlines()]


def eager(weights: torch.dtype, autocast: torch.dtype | None = None) -> SegmentScene:
    """Open eager PyTorch in a precision.

    Args:
        weights: Dtype of weights and activations.
        autocast: Dtype of `torch.autocast`; None to run without it.
    """
    model = EagerSegmenter.load(
        recipe.CHECKPOINT, image_size=SIDE, layers=recipe.LAYERS, heads=range(4)
    )
    model.model.to(weights)

    def segment_scene(sample: Sample) -> SceneResult:
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            first_pass = model.maps(sample.image, sample.classes, replace(PRESET, passes=1))
            labels = model.segment(sample.image, sample.classes, PRESET)
        return SceneResult(first_pass.class_maps, float(first_pass.match[0]), labels)

    return segment_scene


EAGER: dict[str, Callable[[], SegmentScene]] = {
    "fp32": lambda: eager(torch.float32),
    "fp16": lambda: eager(torch.float16),
    "bf16": lambda: eager(torch.bfloat16),
    "autocast fp16": lambda: eager(torch.float32, torch.float16),
    "autocast bf16": lambda: eager(torch.float32, torch.bfloat16),
}


def engine(folder: Path) -> dict[str, Callable[[], SegmentScene]]:
    """Return functions that open the engine on emulated graphs, by precision.

    Args:
        folder: Folder for the converted graphs.
    """

    def open_in(precision: Precision) -> SegmentScene:
        model = open_model("demo")
        return _scene_by_scene(Segmenter(model, PnpOvss(open_emulated(model, precision, folder))))

    return {precision: partial(open_in, precision) for precision in get_args(Precision)}


def openvino() -> dict[str, Callable[[], SegmentScene]]:
    """Return functions that open the engine on OpenVINO, by precision."""

    def open_in(precision: PrecisionChoice) -> SegmentScene:
        return _scene_by_scene(Segmenter.load("demo", backend="openvino", precision=precision))

    return {precision: partial(open_in, precision) for precision in ("fp32", "bf16", "int8")}


ENGINES: dict[str, Callable[[Path], Mapping[str, Callable[[], SegmentScene]]]] = {
    "eager": lambda _: EAGER,
    "engine": engine,
    "openvino": lambda _: openvino(),
}


def _scene_by_scene(segmenter: Segmenter) -> SegmentScene:
    def segment_scene(sample: Sample) -> SceneResult:
        once = replace(SETTINGS, passes=1, crf=None)
        first_pass = segmenter.segment(sample.image, sample.classes, settings=once)
        all_passes = segmenter.segment(sample.image, sample.classes, settings=SETTINGS)
        return SceneResult(first_pass.class_maps, float(first_pass.match[0]), all_passes.labels)

    return segment_scene


def _round(value: float | np.floating) -> float:
    return float(f"{value:.3g}")
