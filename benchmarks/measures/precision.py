"""What low precision costs: eager PyTorch and the engine, each against itself in float32.

There is no GPU in it. PyTorch and OpenVINO compute in low precision on the CPU; the graphs that
builds for GPUs are made from are emulated, see `emulation`.
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
    "The demo model on sticker scenes, each against itself in float32. eager: Hugging Face's BLIP"
    " and autograd, weights and activations converted, or torch.autocast. engine: the exported"
    " graphs converted by `export/graphs/precision.py`; their low precision is emulated on the CPU"
    " (`benchmarks/measures/emulation.py`), it has not been measured on a GPU. openvino: the engine"
    " on OpenVINO, as `--precision` has it, not emulated. Salience error: of the class"
    " maps of one pass, the largest difference relative to the largest value. Labels: after all"
    " passes and the CRF, where a rounding that drops another patch shows as a few per cent."
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
    """How far an engine in a precision is from itself in float32, scene by scene.

    Attributes:
        engine: a key of `ENGINES`.
        precision: "fp16", "bf16" or "int8"; or of eager PyTorch "autocast fp16", "autocast bf16".
        salience: largest difference of the class maps of one pass, relative to the largest value.
        labels: part of the pixels with another label, after all passes, refinement and CRF.
        match: difference of the ITM match probability of one pass.
        machine: processor, versions.
        command: that repeats it.
    """

    engine: str
    precision: str
    salience: list[float]
    labels: list[float]
    match: list[float]
    machine: dict[str, Any] = {}
    command: str = ""


class SceneResult(NamedTuple):
    """What is made of a scene: maps [C, gh, gw] and match of one pass, and labels [H, W]."""

    maps: np.ndarray
    match: float
    labels: np.ndarray


SegmentScene = Callable[[Sample], SceneResult]


def measure(
    names: Iterable[str], precisions: Collection[str], scenes: int, about: Mapping[str, Any]
) -> Iterator[Row]:
    """Rows of engines on the first of the sticker scenes.

    Args:
        names: of `ENGINES`.
        precisions: of them that are compared with "fp32"; none for all.
        scenes: how many.
        about: fields of every row.
    """
    samples = [DATASETS["stickers"].sample(index) for index in range(scenes)]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            openers = ENGINES[name](Path(folder))
            chosen = {key: one for key, one in openers.items() if key in (EXACT, *precisions)}
            for row in compare(name, chosen if precisions else openers, samples):
                yield msgspec.structs.replace(row, **about)


def compare(
    name: str, openers: Mapping[str, Callable[[], SegmentScene]], samples: Sequence[Sample]
) -> Iterator[Row]:
    """Rows of an engine.

    Args:
        name: of the engine.
        openers: opens it in each precision, `EXACT` among them.
        samples: the scenes.
    """
    exact = openers[EXACT]()
    wanted = [exact(sample) for sample in samples]
    for precision, opener in openers.items():
        if precision == EXACT:
            continue
        segment_scene = opener()
        found = [segment_scene(sample) for sample in samples]
        pairs = list(zip(found, wanted, strict=True))
        yield Row(
            name,
            precision,
            salience=[_round(relative_error(f.maps, w.maps)) for f, w in pairs],
            labels=[_round(np.mean(f.labels != w.labels)) for f, w in pairs],
            match=[_round(abs(f.match - w.match)) for f, w in pairs],
        )


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, and where they were measured."""
    lines = [
        "| | precision | scenes | salience error: median, mean, largest"
        " | pixels with another label: median, mean | scenes with over 1 % of them"
        " | match probability: mean, largest |",
        "|" + "---|" * 7,
    ]
    places: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        salience, labels, match = map(np.array, (row.salience, row.labels, row.match))
        lines.append(
            f"| {row.engine} | {row.precision} | {len(labels)}"
            f" | {np.median(salience):.1e}, {salience.mean():.1e}, {salience.max():.1e}"
            f" | {np.median(labels):.1e}, {labels.mean():.1e}"
            f" | {np.sum(labels > 0.01)}: {np.mean(labels > 0.01):.1%}"
            f" | {match.mean():.1e}, {match.max():.1e} |"
        )
        place = describe(row.machine, *_PACKAGES), row.command
        places.setdefault(place, []).append(f"{row.engine} {row.precision}")
    measured = [
        f"{', '.join(names)}: {machine}; `{command}`"
        for (machine, command), names in places.items()
    ]
    return "\n\n".join([NOTE, "\n".join(lines), *measured])


def read(path: Path) -> list[Row]:
    """The rows that were stored, one a line."""
    return [msgspec.json.decode(line, type=Row) for line in path.read_bytes().splitlines()]


def eager(weights: torch.dtype, autocast: torch.dtype | None = None) -> SegmentScene:
    """Eager PyTorch.

    Args:
        weights: what the whole model is converted to.
        autocast: what PyTorch is to choose where it thinks fit.
    """
    model = EagerSegmenter.load(
        recipe.CHECKPOINT, image_size=SIDE, layers=recipe.LAYERS, heads=range(4)
    )
    model.model.to(weights)

    def segment_scene(sample: Sample) -> SceneResult:
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            one = model.maps(sample.image, sample.classes, replace(PRESET, passes=1))
            labels = model.segment(sample.image, sample.classes, PRESET)
        return SceneResult(one.class_maps, float(one.match[0]), labels)

    return segment_scene


EAGER: dict[str, Callable[[], SegmentScene]] = {
    "fp32": lambda: eager(torch.float32),
    "fp16": lambda: eager(torch.float16),
    "bf16": lambda: eager(torch.bfloat16),
    "autocast fp16": lambda: eager(torch.float32, torch.float16),
    "autocast bf16": lambda: eager(torch.float32, torch.bfloat16),
}


def engine(folder: Path) -> dict[str, Callable[[], SegmentScene]]:
    """The demo model's graphs, written to a folder."""

    def opened(precision: Precision) -> SegmentScene:
        model = open_model("demo")
        return _scene_by_scene(Segmenter(model, PnpOvss(open_emulated(model, precision, folder))))

    return {precision: partial(opened, precision) for precision in get_args(Precision)}


def openvino() -> dict[str, Callable[[], SegmentScene]]:
    """The engine on OpenVINO."""

    def opened(precision: PrecisionChoice) -> SegmentScene:
        return _scene_by_scene(Segmenter.load("demo", backend="openvino", precision=precision))

    return {precision: partial(opened, precision) for precision in ("fp32", "bf16", "int8")}


ENGINES: dict[str, Callable[[Path], Mapping[str, Callable[[], SegmentScene]]]] = {
    "eager": lambda _: EAGER,
    "engine": engine,
    "openvino": lambda _: openvino(),
}


def _scene_by_scene(segmenter: Segmenter) -> SegmentScene:
    def segment_scene(sample: Sample) -> SceneResult:
        once = replace(SETTINGS, passes=1, crf=None)
        one = segmenter.segment(sample.image, sample.classes, settings=once)
        all_passes = segmenter.segment(sample.image, sample.classes, settings=SETTINGS)
        return SceneResult(one.class_maps, float(one.match[0]), all_passes.labels)

    return segment_scene


def _round(value: float | np.floating) -> float:
    return float(f"{value:.3g}")
