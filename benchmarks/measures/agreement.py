"""Compares the demo model on a device with the CPU in fp32, on the sample images.

Nothing is timed. The CPU runs ONNX Runtime in fp32 and the CRF in C++; the device runs each
contender, and the CRF too. The settings are those of the demo model's manifest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from pnp_ovss.engine import Segmenter
from pnp_ovss.engine.cli.demo import samples
from pnp_ovss.engine.model import builds
from pnp_ovss.engine.model.folder import DEMO, find_model, open_model
from pnp_ovss.engine.model.signature import CAPTION_LENGTHS
from pnp_ovss.export.build import BUILDERS
from pnp_ovss.export.validate import relative_error

from ..contenders.base import LIMITS, Skipped, SkippedError, skipped_if_it_fails
from ..harness.models import build
from ..harness.records import Rows, describe

LABELS_LIMIT = 1e-3  # part of an image's pixels that may have another label, in fp32


class AgreementRow(msgspec.Struct, frozen=True, kw_only=True):
    """Records how far a contender is from the CPU on an image.

    Attributes:
        contender: Backend and precision of the contender.
        device: Device that the contender ran on, "cpu" or "cuda:N".
        image: File name of the image.
        maps_error: Largest difference of the class maps, relative to their largest value.
        other_labels: Part of the pixels with another label, after the CRF.
        other_labels_without_crf: Part of the pixels with another label, without the CRF.
        machine: Facts of the machine: processor, versions, date.
        command: Command that repeats the measurement.
    """

    contender: str
    device: str
    image: str
    maps_error: float
    other_labels: float
    other_labels_without_crf: float
    machine: dict[str, Any]
    command: str

    @property
    def is_off(self) -> bool:
        """Tell whether the row is over a limit; only fp32 has limits."""
        labels = max(self.other_labels, self.other_labels_without_crf)
        agrees = self.maps_error <= LIMITS["fp32"] and labels <= LABELS_LIMIT
        return self.contender.endswith("-fp32") and not agrees


class _SampleResult(NamedTuple):
    """Stores the results of a sample image, in a run with the CRF and in a second run without it.

    Attributes:
        maps: Class maps of the first run, float32 [C, gh, gw].
        maps_again: Class maps of the second run, float32 [C, gh, gw].
        labels: Labels of the first run, uint16 [H, W].
        labels_without_crf: Labels of the second run, uint16 [H, W].
    """

    maps: np.ndarray
    maps_again: np.ndarray
    labels: np.ndarray
    labels_without_crf: np.ndarray


def measure(
    names: Sequence[str],
    *,
    device: str,
    folder: Path,
    build_first: bool,
    about: Mapping[str, Any],
    say: Callable[[str], None],
) -> Iterator[AgreementRow | Skipped]:
    """Measure a row for each contender and sample image.

    Args:
        names: Names of the contenders, of `registry.ENGINE_SEGMENTERS`.
        device: Device, "cpu" or "cuda:N".
        folder: Folder for a copy of the demo model and its builds. Without a copy in it, and
            without `build_first`, the demo model runs with the builds in the user's cache.
        build_first: Whether missing builds of the contenders are made.
        about: Fields that every row repeats: machine and command.
        say: Function that is called with a line of text at each step.
    """
    copy = folder / DEMO
    if build_first and not copy.exists():
        shutil.copytree(find_model(DEMO), copy)
    model = copy if copy.exists() else DEMO
    say("the CPU in fp32")
    expected = _segment_samples(model, "onnxruntime", "cpu", "fp32")
    for name in names:
        backend, _, precision = name.rpartition("-")
        try:
            with skipped_if_it_fails():
                if build_first and backend in BUILDERS:
                    say(f"building {name}")
                    build(
                        open_model(model),
                        backend,
                        precision,
                        device=device,
                        batches=builds.BATCHES,
                        tokens=CAPTION_LENGTHS,
                    )
                say(f"{name} on {device}")
                results = _segment_samples(model, backend, device, precision)
        except SkippedError as error:
            yield Skipped(name, device, str(error), failed=error.failed)
            continue
        for (path, _), result, exact in zip(samples(), results, expected, strict=True):
            yield AgreementRow(
                contender=name,
                device=device,
                image=path.name,
                maps_error=max(
                    relative_error(result.maps, exact.maps),
                    relative_error(result.maps_again, exact.maps),
                ),
                other_labels=_difference(result.labels, exact.labels),
                other_labels_without_crf=_difference(
                    result.labels_without_crf, exact.labels_without_crf
                ),
                **about,
            )


def _segment_samples(
    model: str | Path, backend: str, device: str, precision: Any
) -> list[_SampleResult]:
    with Segmenter.load(model, backend=backend, device=device, precision=precision) as segmenter:
        settings = segmenter.settings
        results = []
        for path, classes in samples():
            # Both runs are compared: in the second a GPU may replay what it recorded in the first.
            with_crf, without_crf = (
                segmenter.segment(path, classes, settings=replace(settings, crf=crf))
                for crf in ("densecrf", None)
            )
            results.append(
                _SampleResult(
                    with_crf.class_maps,
                    without_crf.class_maps,
                    with_crf.labels,
                    without_crf.labels,
                )
            )
    return results


def _difference(labels: np.ndarray, expected: np.ndarray) -> float:
    """Return the part of the pixels with another label."""
    return float(np.mean(labels != expected))


def table(rows: Rows) -> str:
    """Write the rows as Markdown."""
    compared = [row for row in rows if "maps_error" in row]
    skipped = [f"- {row['contender']}: {row['skipped']}" for row in rows if "skipped" in row]
    parts = []
    if compared:
        about = compared[0]
        lines = [
            "| contender | device | image | maps off by | other labels | without CRF |",
            "|---|---|---|---:|---:|---:|",
            *(
                f"| {row['contender']} | {row['device']} | {row['image']}"
                f" | {row['maps_error']:.1e} | {100 * row['other_labels']:.3f} %"
                f" | {100 * row['other_labels_without_crf']:.3f} % |"
                for row in compared
            ),
        ]
        parts = [
            f"{describe(about['machine'])}\n\n`{about['command']}`",
            "The demo model on the sample images, against ONNX Runtime in fp32 and the CRF on the"
            " CPU.",
            "\n".join(lines),
        ]
    if skipped:
        parts.append("\n".join(["Not compared:", "", *skipped]))
    return "\n\n".join(parts)
